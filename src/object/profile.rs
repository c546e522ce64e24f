//! What the files of AWS's own tools say: `~/.aws/credentials` and `~/.aws/config`.

use std::collections::HashMap;
use std::env;
use std::path::PathBuf;

use configparser::ini::Ini;

use crate::error::{Error, Result};

/// A profile's settings, as far as they are given.
#[derive(Default)]
pub struct Profile {
    /// Id and secret.
    pub keys: Option<(String, String)>,
    /// What it is called, and a setting by which AWS's own tools get keys that it does not have itself.
    pub without_keys: Option<(String, &'static str)>,
    pub session_token: Option<String>,
    pub region: Option<String>,
    pub endpoint: Option<String>,
}

/// Ways to get keys that are not known here.
const OTHER_WAYS: [&str; 5] = ["sso_session", "sso_start_url", "role_arn", "credential_process", "login_session"];

type Sections = HashMap<String, HashMap<String, Option<String>>>;

impl Profile {
    /// The one that `AWS_PROFILE` names, or the one called default; empty if there is none.
    pub fn load() -> Result<Profile> {
        let named = env::var("AWS_PROFILE").ok();
        let name = named.as_deref().unwrap_or("default");
        let credentials = read("AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
        let config = read("AWS_CONFIG_FILE", "config")?;
        // In this one all but the default have a word in front.
        let in_config = if name == "default" { name.to_owned() } else { format!("profile {name}") };
        if named.is_some() && !credentials.contains_key(name) && !config.contains_key(&in_config) {
            return Err(Error::Invalid(format!("AWS_PROFILE: there is no profile {name:?} in ~/.aws")));
        }
        let get = |key: &str| {
            let of = |sections: &Sections, name: &str| sections.get(name)?.get(key)?.clone();
            of(&credentials, name).or_else(|| of(&config, &in_config))
        };
        let keys = get("aws_access_key_id").zip(get("aws_secret_access_key"));
        let other_way = OTHER_WAYS.into_iter().find(|way| keys.is_none() && get(way).is_some());
        Ok(Profile {
            keys,
            without_keys: other_way.map(|way| (name.to_owned(), way)),
            session_token: get("aws_session_token"),
            region: get("region"),
            endpoint: get("endpoint_url"),
        })
    }
}

/// A file that `variable` names, or else that lies in `~/.aws`; empty if there is none.
fn read(variable: &str, name: &str) -> Result<Sections> {
    let usual = || Some(PathBuf::from(env::var_os("HOME")?).join(".aws").join(name));
    let Some(path) = env::var_os(variable).map(PathBuf::from).or_else(usual) else { return Ok(Sections::new()) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Sections::new()),
        Err(error) => return Err(Error::io(path, error)),
    };
    // Section names have capitals that matter. The parser's message could repeat a secret.
    let parsed = Ini::new_cs().read(text);
    parsed.map_err(|_| Error::Invalid(format!("{}: not a file of AWS profiles", path.display())))
}
