#!/usr/bin/env bash
# What an operator without a factory runs for one customized image: the standard tools, inputs on the local disk.
#   operator.sh installer INPUTS WORK ARCHES DESTINATION   makes an image of these architectures, pushes it
#   operator.sh iso       INPUTS WORK ARCH   DESTINATION   makes an ISO image
#   operator.sh disk      INPUTS WORK ARCH   DESTINATION   makes a disk image, in the format that its name ends with
# INPUTS holds, by architecture, the files of the imager and the layers of the extensions; and the base installer as an
# OCI layout. UKIFY is the command of ukify. The architectures are made at the same time.
set -euo pipefail
kind=$1 in=$2 work=$3 arches=$4 destination=$5
modules=usr/lib/modules
squash=(-noappend -no-progress -quiet -all-root -no-xattrs -comp zstd)

# Unpacks the layers of an extension one over the other; whiteouts take away what is below.
unpack_extension() { # FOLDER-OF-LAYERS TARGET
    local layer mark
    mkdir -p "$2"
    for layer in "$1"/*.tar*; do
        while read -r mark; do
            case $mark in
            */.wh..wh..opq) find "$2/${mark%/*}" -mindepth 1 -delete ;;
            *) rm -rf "$2/${mark%/*}/${mark##*/.wh.}" ;;
            esac
        done < <(tar -tf "$layer" | grep '/\.wh\.' || true)
        tar -xf "$layer" -C "$2" --exclude '.wh.*'
    done
}

# The initramfs: the base, and behind it an archive of a squashfs image an extension, and the index over all modules.
make_initramfs() { # ARCH WORK
    local arch=$1 work=$2 n=0 extension kernel
    mkdir -p "$work/append" "$work/base" "$work/merged/$modules" "$work/config"
    echo 'layers:' >"$work/append/extensions.yaml"
    for extension in "$in/$arch"/extensions/*; do
        unpack_extension "$extension" "$work/extension$n"
        mksquashfs "$work/extension$n/rootfs" "$work/append/$n.sqsh" "${squash[@]}" >/dev/null
        { echo "  - image: $n.sqsh"; sed -n '/^metadata:/,$p' "$work/extension$n/manifest.yaml" | sed 's/^/    /'; } \
            >>"$work/append/extensions.yaml"
        n=$((n + 1))
    done
    mkdir -p "$work/schematic/usr/local/share/schematic"
    : >"$work/schematic/usr/local/share/schematic/operator"
    mksquashfs "$work/schematic" "$work/append/$n.sqsh" "${squash[@]}" >/dev/null
    printf '  - image: %s.sqsh\n    metadata:\n      name: schematic\n' "$n" >>"$work/append/extensions.yaml"

    (cd "$work/base" && zstd -dcq "$in/$arch/initramfs.xz" | cpio -i --quiet rootfs.sqsh)
    unsquashfs -quiet -no-progress -force -dest "$work/merged" "$work/base/rootfs.sqsh" "$modules" >/dev/null
    for extension in "$work"/extension*; do
        if [ -d "$extension/rootfs/$modules" ]; then cp -al "$extension/rootfs/$modules/." "$work/merged/$modules/"; fi
    done
    ln -s usr/lib "$work/merged/lib"
    echo 'search extras built-in' >"$work/config/talos.conf"
    kernel=$(ls "$work/merged/$modules")
    depmod -b "$work/merged" -C "$work/config" "$kernel"
    mkdir -p "$work/index/$modules/$kernel"
    mv "$work/merged/$modules/$kernel"/modules.* "$work/index/$modules/$kernel/"
    mksquashfs "$work/index" "$work/append/modules.dep.sqsh" "${squash[@]}" >/dev/null
    printf '  - image: modules.dep.sqsh\n    metadata:\n      name: modules.dep\n' >>"$work/append/extensions.yaml"
    (cd "$work/append" && find . -mindepth 1 -printf '%P\n' | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) |
        zstd -q -T0 -3 | cat "$in/$arch/initramfs.xz" - >"$work/initramfs"
}

# The unified kernel image: sections behind those of the stub.
make_uki() { # ARCH WORK
    local arch=$1 work=$2 in=$in/$1
    printf 'NAME="Talos"\nID=talos\n' >"$work/osrel"
    printf 'talos.platform=metal console=tty0 console=ttyS0' >"$work/cmdline"
    $UKIFY build --stub "$in/systemd-stub.efi" --linux "$in/vmlinuz" --initrd "$work/initramfs" \
        --efi-arch "$([ "$arch" = arm64 ] && echo aa64 || echo x64)" --uname "$(ls "$work/merged/$modules")" \
        --cmdline "@$work/cmdline" --os-release "@$work/osrel" --output "$work/vmlinuz.efi" >"$work/ukify.log" 2>&1 ||
        { cat "$work/ukify.log" >&2; exit 1; }
}

# The layer that the installer has on top of its base.
make_layer() { # ARCH WORK
    make_initramfs "$1" "$2"
    make_uki "$1" "$2"
    mkdir -p "$2/layer/usr/install/$1"
    ln "$2/vmlinuz.efi" "$2/layer/usr/install/$1/vmlinuz.efi"
    cp "$in/$1/systemd-boot.efi" "$2/layer/usr/install/$1/systemd-boot.efi"
    tar -C "$2/layer" --owner 0 --group 0 --mtime @0 --sort name -cf "$2/layer.tar" usr
}

make_installer() {
    local arch jobs=() job
    for arch in $arches; do
        make_layer "$arch" "$work/$arch" &
        jobs+=($!)
    done
    for job in "${jobs[@]}"; do wait "$job"; done
    # Base layers and ours, a manifest an architecture, an index: an OCI layout for skopeo to push.
    /usr/bin/python3 - "$in/base" "$work" "$arches" <<'PYTHON'
import hashlib, json, os, sys
base, work, arches = sys.argv[1], sys.argv[2], sys.argv[3].split()
blob = lambda root, digest: os.path.join(root, "blobs/sha256", digest.split(":")[1])
out = os.path.join(work, "image")
os.makedirs(os.path.join(out, "blobs/sha256"))
def put(document, kind):
    data = json.dumps(document).encode()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    open(blob(out, digest), "wb").write(data)
    return {"mediaType": kind, "digest": digest, "size": len(data)}
read = lambda digest: json.load(open(blob(base, digest)))
index = read(json.load(open(os.path.join(base, "index.json")))["manifests"][0]["digest"])
manifests = []
for arch in arches:
    entry = next(entry for entry in index["manifests"] if entry["platform"]["architecture"] == arch)
    manifest = read(entry["digest"])
    config = read(manifest["config"]["digest"])
    for layer in manifest["layers"]:
        os.link(blob(base, layer["digest"]), blob(out, layer["digest"])) if not os.path.exists(blob(out, layer["digest"])) else None
    tar = os.path.join(work, arch, "layer.tar")
    digest = "sha256:" + hashlib.file_digest(open(tar, "rb"), "sha256").hexdigest()
    os.rename(tar, blob(out, digest))
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": os.path.getsize(blob(out, digest))}
    config["rootfs"]["diff_ids"].append(digest)
    config["history"] = [{"created": "1970-01-01T00:00:00Z"} for _ in config["rootfs"]["diff_ids"]]
    manifest["config"] = put(config, "application/vnd.oci.image.config.v1+json")
    manifest["layers"].append(layer)
    entry.update(put(manifest, "application/vnd.oci.image.manifest.v1+json"))
    manifests.append(entry)
index["manifests"] = manifests
top = put(index, "application/vnd.oci.image.index.v1+json")
top["annotations"] = {"org.opencontainers.image.ref.name": "made"}
json.dump({"schemaVersion": 2, "manifests": [top]}, open(os.path.join(out, "index.json"), "w"))
json.dump({"imageLayoutVersion": "1.0.0"}, open(os.path.join(out, "oci-layout"), "w"))
PYTHON
    skopeo copy --quiet --all --preserve-digests --dest-tls-verify=false "oci:$work/image:made" "$destination"
}

# Boots by BIOS with GRUB and by UEFI with systemd-boot out of a FAT image, from a disc and from a stick.
make_iso() {
    local arch=$arches loader files blocks
    make_initramfs "$arch" "$work"
    make_uki "$arch" "$work"
    loader=$([ "$arch" = arm64 ] && echo BOOTAA64.EFI || echo BOOTX64.EFI)
    mkdir -p "$work/esp/EFI/BOOT" "$work/esp/EFI/Linux" "$work/esp/loader" "$work/iso/boot/grub"
    cp "$in/$arch/systemd-boot.efi" "$work/esp/EFI/BOOT/$loader"
    ln "$work/vmlinuz.efi" "$work/esp/EFI/Linux/Talos-operator.efi"
    printf 'timeout 10\n' >"$work/esp/loader/loader.conf"
    files=$(du -smL "$work/esp" | cut -f1)
    blocks=$(((files + 10 < 34 ? 34 : files + 10) * 1024))
    mkfs.vfat -C -F 32 -n EFI "$work/efi.img" "$blocks" >/dev/null
    mcopy -s -i "$work/efi.img" "$work/esp/EFI" "$work/esp/loader" ::
    cp "$in/$arch/vmlinuz" "$work/iso/boot/vmlinuz"
    ln "$work/initramfs" "$work/iso/boot/initramfs.xz"
    cp -al "$work/esp/EFI" "$work/esp/loader" "$work/iso/"
    printf 'set timeout=3\nmenuentry "Talos ISO" {\n  linux /boot/vmlinuz %s\n  initrd /boot/initramfs.xz\n}\n' \
        "$(cat "$work/cmdline")" >"$work/iso/boot/grub/grub.cfg"
    grub-mkrescue -d /usr/lib/grub/i386-pc --fonts= --locales= -o "$destination" "$work/iso" -- -volid TALOS_OPERATOR \
        -append_partition 2 0xef "$work/efi.img" \
        -boot_image any next -boot_image any efi_path=--interval:appended_partition_2:all:: \
        -boot_image any platform_id=0xef -boot_image any emul_type=no_emulation 2>"$work/grub-mkrescue.log" ||
        { cat "$work/grub-mkrescue.log" >&2; exit 1; }
}

# Boots by BIOS with GRUB and by UEFI with systemd-boot: EFI, BIOS, BOOT, META, as long as ours.
make_disk() {
    local arch=$arches loader disk=$work/disk.raw
    make_initramfs "$arch" "$work"
    make_uki "$arch" "$work"
    truncate -s 4247M "$disk"
    sgdisk --clear --new 1:2048:+2101M --typecode 1:ef00 --change-name 1:EFI --new 2:0:+1M --typecode 2:ef02 \
        --change-name 2:BIOS --new 3:0:+2000M --change-name 3:BOOT --new 4:0:+1M --change-name 4:META "$disk" >/dev/null
    loader=$([ "$arch" = arm64 ] && echo BOOTAA64.EFI || echo BOOTX64.EFI)
    mkdir -p "$work/esp/EFI/BOOT" "$work/esp/EFI/Linux" "$work/esp/loader"
    cp "$in/$arch/systemd-boot.efi" "$work/esp/EFI/BOOT/$loader"
    ln "$work/vmlinuz.efi" "$work/esp/EFI/Linux/Talos-operator.efi"
    printf 'timeout 10\n' >"$work/esp/loader/loader.conf"
    mkfs.vfat -F 32 -n EFI --offset 2048 "$disk" $((2101 * 1024)) >/dev/null
    mcopy -s -i "$disk@@1M" "$work/esp/EFI" "$work/esp/loader" ::
    grub-mkimage -O i386-pc -d /usr/lib/grub/i386-pc -p '(,gpt3)/grub' -o "$work/core.img" \
        biosdisk part_gpt xfs normal linux configfile search echo test all_video
    dd if="$work/core.img" of="$disk" bs=1M seek=2102 conv=notrunc status=none
    dd if=/usr/lib/grub/i386-pc/boot.img of="$disk" bs=440 count=1 conv=notrunc status=none
    printf 'set timeout=3\nmenuentry "Talos" {\n  linux /A/vmlinuz %s\n  initrd /A/initramfs.xz\n}\n' \
        "$(cat "$work/cmdline")" >"$work/grub.cfg"
    printf '%s\n' /dev/null '0 0' 'd--755 0 0' 'A d--755 0 0' "vmlinuz ---644 0 0 $in/$arch/vmlinuz" \
        "initramfs.xz ---644 0 0 $work/initramfs" '$' 'grub d--755 0 0' "grub.cfg ---644 0 0 $work/grub.cfg" '$' '$' \
        >"$work/boot.proto"
    truncate -s 2000M "$work/boot.xfs"
    mkfs.xfs -q -L BOOT -p "$work/boot.proto" "$work/boot.xfs"
    dd if="$work/boot.xfs" of="$disk" bs=1M seek=2103 conv=notrunc,sparse status=none
    case $destination in
    *.raw) mv "$disk" "$destination" ;;
    *.raw.zst) zstd -q -18 -T0 "$disk" -o "$destination" ;;
    *.raw.xz) xz -6 -T0 -c "$disk" >"$destination" ;;
    *.raw.tar.gz) tar -C "$work" --owner 0 --group 0 -c disk.raw | pigz -9 >"$destination" ;;
    *.qcow2) qemu-img convert -O qcow2 -o cluster_size=8k "$disk" "$destination" ;;
    *.vhd) qemu-img convert -O vpc -o subformat=fixed,force_size "$disk" "$destination" ;;
    *.ova)
        qemu-img convert -O vmdk -o subformat=streamOptimized "$disk" "$work/disk.vmdk"
        printf '<Envelope/>\n' >"$work/disk.ovf"
        (cd "$work" && sha256sum --tag disk.vmdk disk.ovf >disk.mf && tar -cf "$destination" disk.ovf disk.mf disk.vmdk)
        ;;
    *) echo "unknown format: $destination" >&2; exit 2 ;;
    esac
}

mkdir -p "$work"
case $kind in
installer) make_installer ;;
iso) make_iso ;;
disk) make_disk ;;
*) echo "unknown: $kind" >&2; exit 2 ;;
esac
