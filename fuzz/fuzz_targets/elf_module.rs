//! Foreign kernel modules, packed or not, and stored facts of them.
#![no_main]

use image_factory::format::depmod::{Kmod, ModuleFacts, ModuleTree, TreeFacts, index};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let module = ModuleFacts::read("kernel/x/fuzz.ko", data);
    let tree = TreeFacts { kernel: "6.1".to_owned(), modules: vec![module], ..TreeFacts::default() };
    assert_eq!(TreeFacts::decode(&tree.encode()).as_ref(), Ok(&tree));
    let _ = index(&ModuleTree::new(tree), &[], Kmod::V34);
    let _ = TreeFacts::decode(data);
});
