//! Linking GRUB images from foreign files: kernels of any bytes, any list of dependencies, any module.
//!
//! The input is: platform (1 byte), lengths of moddep.lst and of the module (u16 each), these two, then the kernel.
#![no_main]

use image_factory::format::grub::{
    BootFile, Core, GrubFolder, GrubPlatform, core_image, efi_application, el_torito_image, protect,
};

const CORE: Core<'static> = Core { modules: &["a", "b"], prefix: "/boot/grub", config: Some("x") };

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&[platform, a0, a1, b0, b1], rest)) = data.split_first_chunk() else { return };
    let platform = [GrubPlatform::I386Pc, GrubPlatform::X86_64Efi, GrubPlatform::Arm64Efi][usize::from(platform % 3)];
    let take = |rest: &[u8], len: [u8; 2]| rest.len().min(usize::from(u16::from_le_bytes(len)));
    let (list, rest) = rest.split_at(take(rest, [a0, a1]));
    let (module, kernel) = rest.split_at(take(rest, [b0, b1]));
    let code = |len: usize| vec![0; len];
    let files = [
        ("moddep.lst", list.to_vec()),
        ("modinfo.sh", [b"grub_version=".as_slice(), list].concat()),
        ("a.mod", module.to_vec()),
        ("b.mod", module.to_vec()),
        ("c.mod", module.to_vec()),
        ("kernel.img", kernel.to_vec()),
        ("diskboot.img", code(512)),
        ("cdboot.img", code(2048)),
        ("lzma_decompress.img", code(0x800)),
    ];
    let files = files.map(|(name, bytes)| (name.to_owned(), bytes.into()));
    let folder = GrubFolder::new(platform, files).expect("it is small");
    let _ = folder.version();
    if platform != GrubPlatform::I386Pc {
        if let Ok(image) = efi_application(&folder, &CORE) {
            assert_eq!(image.len() % 4096, 0);
        }
    } else if let Ok(core) = core_image(&folder, &CORE) {
        assert!(core.len() < 0x80000);
        let image = el_torito_image(&folder, &CORE).expect("its core could be linked");
        assert_eq!(BootFile::of(&image).len as usize, core.len() + 2048);
        let _ = protect(core, 2048);
    }
});
