//! Scripts for iPXE. Golden data: `tests/golden/cmdlines/pxe.jsonl`.

use super::{AssetKind, AssetPath, available, unparsed};
use crate::assemble::cmdline::CmdlineAsset;
use crate::factory::prepare::command_line;
use crate::factory::schematics::Stored;
use crate::factory::{Factory, FactoryError, catalogs};
use crate::types::TalosVersion;

/// A user's name and password, to be carried into the URLs of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Factory {
    /// The iPXE script that boots a schematic on a version; `path` is `<platform>-<arch>[-secureboot]`.
    ///
    /// # Errors
    /// As [`Factory::asset`].
    pub async fn pxe_script(
        &self,
        schematic: &str,
        version: &str,
        path: &str,
        credentials: Option<Credentials>,
    ) -> Result<String, FactoryError> {
        let schematic = self.schematic(schematic).await?;
        catalogs::parse(version)?;
        // What the script leads to must be there.
        let path = AssetPath::on_platform(AssetKind::Uki, path).map_err(unparsed)?;
        let version = self.catalogs.offered(version)?;
        available(&path)?;
        let mut base = self.external_pxe_url.clone();
        if let Some(Credentials { user, password }) = credentials {
            let refused = |()| FactoryError::Invalid("the URL of this service cannot hold a user's name".to_owned());
            base.set_username(&user).map_err(refused)?;
            base.set_password(Some(&password)).map_err(refused)?;
        }
        script(base.as_str().trim_end_matches('/'), &version, &schematic, &path)
    }
}

/// The script; `base` has no slash at its end.
fn script(base: &str, version: &TalosVersion, schematic: &Stored, path: &AssetPath) -> Result<String, FactoryError> {
    let target = (path.platform, path.arch);
    let line = command_line(version, target, &schematic.schematic, &[], CmdlineAsset::Cmdline, path.secure_boot)?;
    let (id, arch, platform) = (schematic.id, path.arch, path.platform);
    let folder = format!("{base}/image/{id}/{version}");
    Ok(if path.secure_boot {
        format!("#!ipxe\n\nimgfree\nkernel {folder}/{platform}-{arch}-secureboot-uki.efi {line}\nboot\n")
    } else {
        format!("#!ipxe\n\nimgfree\nkernel {folder}/kernel-{arch} {line}\ninitrd {folder}/initramfs-{arch}.xz\nboot\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schematic::{Schematic, SchematicId};

    /// Every script, byte for byte; what fails there fails here. A golden command line that holds compressed META differs in
    /// its bytes (`tests/golden/cmdlines` says why), so those lines are compared up to it.
    #[test]
    fn golden_scripts() {
        let golden = include_str!("../../../tests/golden/cmdlines/pxe.jsonl");
        let (mut scripts, mut errors) = (0, 0);
        for line in golden.lines() {
            let golden: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| golden[name].as_str().unwrap_or_default();
            let schematic = Schematic::from_stored(text("schematic")).unwrap();
            let canonical = schematic.canonical();
            let stored = Stored { id: SchematicId::of(&canonical), schematic, canonical };
            let made = catalogs::parse(text("version")).and_then(|version| {
                let path = AssetPath::on_platform(AssetKind::Uki, text("path")).map_err(unparsed)?;
                script(text("pxe_url").trim_end_matches('/'), &version, &stored, &path)
            });
            match (made, golden["script"].as_str()) {
                (Ok(made), Some(script)) => {
                    let plain = |text: &str| text.split("INSTALLER_META_BASE64=H4sI").next().map(str::to_owned);
                    assert_eq!(plain(&made), plain(script));
                    scripts += 1;
                }
                (Err(FactoryError::Invalid(_)), None) => errors += 1,
                // A value that is refused when the schematic is posted.
                (Ok(_), None) if text("error").contains("enrollKeys") => errors += 1,
                (made, script) => panic!("{line}: {made:?} for {script:?}"),
            }
        }
        assert_eq!(scripts + errors, 470);
        assert!(scripts > 300, "{scripts}");
    }
}
