//! Where a configuration is written and the binary is run on it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use tempfile::TempDir;

/// A directory with configuration files.
pub struct Desk(TempDir);

impl Desk {
    pub fn with(main: &str) -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.write("everhook.toml", main);
        desk
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        everhook()
            .current_dir(self.0.path())
            .envs(variables.iter().copied())
            .args(["-c", "everhook.toml"])
            .args(arguments)
            .output()
            .unwrap()
    }

    pub fn check(&self, variables: &[(&str, &str)]) -> Output {
        self.run(&["config", "check"], variables)
    }

    /// The mistakes, which must be there.
    pub fn mistakes(&self) -> String {
        mistakes(&self.check(&[]))
    }

    /// One key of the configuration in effect.
    pub fn effective(&self, flags: &[&str], variables: &[(&str, &str)], pointer: &str) -> String {
        let output = self.run(&[&["config", "show", "--json"], flags].concat(), variables);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        shown.pointer(pointer).unwrap().to_string()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn mistakes(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(78), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty());
    text(&output.stderr)
}

/// The binary, in an empty environment.
pub fn everhook() -> assert_cmd::Command {
    let mut command = assert_cmd::Command::cargo_bin("everhook").unwrap();
    command.env_clear();
    command
}
