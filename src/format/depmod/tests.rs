use proptest::prelude::*;

use super::*;

fn tree() -> TreeFacts {
    let module = |path: &str, exports: &[&str], needs: &[&str]| ModuleFacts {
        path: path.to_owned(),
        exports: exports.iter().map(|text| (*text).to_owned()).collect(),
        needs: needs.iter().map(|text| (*text).to_owned()).collect(),
        info: vec![("alias".to_owned(), format!("pci:{path}"))],
    };
    TreeFacts {
        kernel: "6.1".to_owned(),
        modules: vec![
            module("kernel/a.ko.xz", &["a"], &["b", "nowhere"]),
            module("kernel/b.ko", &["b"], &["c"]),
            module("kernel/c-d.ko", &["c"], &[]),
        ],
        order: Some(b"kernel/c-d.ko\nkernel/a.ko\nkernel/b.ko\n".to_vec()),
        builtin: None,
        builtin_modinfo: None,
    }
}

#[test]
fn facts_round_trip_and_damage_is_refused() {
    let stored = tree().encode();
    assert_eq!(TreeFacts::decode(&stored).unwrap(), tree());
    for cut in 0..stored.len() {
        assert!(TreeFacts::decode(&stored[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn dependencies_are_printed_users_first_and_extras_replace() {
    let dep = |extras: &[&TreeFacts]| {
        let extras: Vec<ModuleTree> = extras.iter().map(|facts| ModuleTree::new((*facts).clone())).collect();
        let files = index(&ModuleTree::new(tree()), &extras.iter().collect::<Vec<_>>(), Kmod::V34);
        String::from_utf8(files.iter().find(|(name, _)| *name == "modules.dep").unwrap().1.clone()).unwrap()
    };
    assert_eq!(dep(&[]), "kernel/c-d.ko:\nkernel/a.ko.xz: kernel/b.ko kernel/c-d.ko\nkernel/b.ko: kernel/c-d.ko\n");
    let mut extra = tree();
    extra.modules = vec![ModuleFacts { path: "extras/x/c_d.ko".to_owned(), ..extra.modules[2].clone() }];
    assert!(dep(&[&extra]).contains("kernel/b.ko: extras/x/c_d.ko\n"), "{}", dep(&[&extra]));
}

#[test]
fn paths_are_modules_as_for_depmod() {
    for path in ["a.ko", "kernel/x/a.ko.gz", "a.ko.xz", "extras/a.ko.zst"] {
        assert!(is_module(path), "{path}");
    }
    for path in [".ko", "a.koo", "a.ko.bz2", "build/a.ko", "x/source/a.ko", "modules.dep"] {
        assert!(!is_module(path), "{path}");
    }
}

/// A module whose symbols and aliases are few and short, so that several modules share them.
fn module() -> impl Strategy<Value = ModuleFacts> {
    let words = |pattern: &'static str| prop::collection::vec(pattern, 0..6);
    ("(kernel|extras)/[ab]/[a-f]{1,2}\\.ko", words("[a-e]{1,2}"), words("\\.?[a-e]{1,2}"), words("[a-c\\-]{0,3}"))
        .prop_map(|(path, exports, needs, aliases)| {
            let info = aliases.into_iter().map(|alias| ("alias".to_owned(), alias)).collect();
            ModuleFacts { path, exports, needs, info }
        })
}

proptest! {
    #[test]
    fn trees_laid_over_one_another_are_as_one(modules in prop::collection::vec(module(), 0..20), cut in 0usize..20) {
        let cut = cut.min(modules.len());
        let facts = |modules: &[ModuleFacts]| ModuleTree::new(TreeFacts { modules: modules.to_vec(), ..tree() });
        let (whole, base, extra) = (facts(&modules), facts(&modules[..cut]), facts(&modules[cut..]));
        for kmod in [Kmod::V32, Kmod::V33, Kmod::V34] {
            prop_assert_eq!(index(&base, &[&extra], kmod), index(&whole, &[], kmod));
        }
    }

    #[test]
    fn foreign_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..600), elf in any::<bool>()) {
        let bytes = if elf { [b"\x7fELF\x02\x01\x01".as_slice(), &bytes].concat() } else { bytes };
        let _ = ModuleFacts::read("x.ko", &bytes);
        let _ = TreeFacts::decode(&bytes);
    }
}
