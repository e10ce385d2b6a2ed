//! The official conformance suite of the OCI distribution specification, read-only.

use conformance::oci_suite::{self, Inputs};

use super::world::{THREE, World};

/// Tests that the suite runs against a repository that only reads: it counts them itself; fewer would mean that it
/// was told of less.
const TESTS: u32 = 20;

fn strings(value: &serde_json::Value, pointer: &str) -> Vec<String> {
    let found = value.pointer(pointer).and_then(|value| value.as_str());
    found.map(str::to_owned).into_iter().collect()
}

#[test]
fn a_generated_and_a_pulled_through_repository_conform() {
    let world = World::start().unwrap();
    let id = world.factory.post_schematic(THREE).unwrap();
    let generated = format!("installer/{id}");
    for (name, tag) in [(generated.as_str(), "v1.13.2"), ("siderolabs/installer-base", "v1.13.2")] {
        let [index, amd64, arm64] = world.digests(name, tag).unwrap();
        let manifest = world.json(&format!("/v2/{name}/manifests/{amd64}")).unwrap();
        let mut blobs = strings(&manifest, "/config/digest");
        blobs.extend(strings(&manifest, "/layers/0/digest"));
        let inputs = Inputs {
            tags: vec![tag.to_owned()],
            manifests: vec![index.clone(), amd64, arm64],
            blobs,
            referrers: vec![index],
        };
        let outcome = oci_suite::run(world.factory.address(), name, &inputs).unwrap();
        println!("{name}: {} passed, {} switched off, {} skipped", outcome.passed, outcome.disabled, outcome.skipped);
        assert_eq!(outcome.failed, 0, "{name}: {:?}\n{}", outcome.failures, outcome.report);
        assert!(outcome.passed >= TESTS, "{name}: only {} tests ran\n{}", outcome.passed, outcome.report);
    }
}
