//! Where an object lies, and what to ask for it there.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use url::Url;

use super::profile::Profile;
use crate::error::{Error, Result};

/// A server that does not take the connection for so long is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// `s3://BUCKET/KEY`, `gs://BUCKET/KEY`, `az://CONTAINER/KEY`, `http://...` or `https://...`, with the
/// credentials that the environment has for it.
#[derive(Clone)]
pub struct Address {
    name: String,
    store: Store,
    path: object_store::path::Path,
}

/// Not built yet, as it is built anew for each client.
#[derive(Clone)]
enum Store {
    S3(Box<AmazonS3Builder>),
    Google(Box<GoogleCloudStorageBuilder>),
    Azure(Box<MicrosoftAzureBuilder>),
    /// A web server by its root, with the query of a signed address.
    Web(Url),
}

impl Address {
    /// Of what [`super::is_address`].
    pub fn parse(place: &Path) -> Result<Address> {
        let text = place.to_str().ok_or_else(|| Error::Invalid(format!("{}: not UTF-8", place.display())))?;
        let shown = super::shown(place);
        let invalid = |what: &str| Error::Invalid(format!("{shown}: {what}"));
        let mut url = Url::parse(text).map_err(|e| invalid(&e.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid(
                "credentials do not belong into an address; the environment has them (docs/objects.md)",
            ));
        }
        let is_web = matches!(url.scheme(), "http" | "https");
        if url.fragment().is_some() || (url.query().is_some() && !is_web) {
            return Err(invalid("an address ends with the object's name"));
        }
        let path = object_store::path::Path::from_url_path(url.path()).map_err(|e| invalid(&e.to_string()))?;
        if path.as_ref().is_empty() {
            return Err(invalid("no object is named"));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).map(str::to_owned);
        let host = host.ok_or_else(|| invalid("no bucket or server is named"))?;
        let store = match url.scheme() {
            "s3" => Store::S3(Box::new(s3(&host)?)),
            "gs" => Store::Google(Box::new(GoogleCloudStorageBuilder::from_env().with_bucket_name(host))),
            "az" => Store::Azure(Box::new(MicrosoftAzureBuilder::from_env().with_container_name(host))),
            _ => {
                url.set_path("/");
                Store::Web(url)
            }
        };
        Ok(Address { name: shown, store, path })
    }

    /// What to call it in messages: nothing in it is secret.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn path(&self) -> &object_store::path::Path {
        &self.path
    }

    /// What tells it from objects of the same name elsewhere.
    pub(super) fn identity(&self) -> String {
        let place = match &self.store {
            Store::S3(builder) => endpoint(builder),
            Store::Azure(builder) => builder.get_config_value(&AzureConfigKey::AccountName),
            Store::Google(_) | Store::Web(_) => None,
        };
        format!("{}\n{}", self.name, place.unwrap_or_default())
    }

    pub(super) fn has_query(&self) -> bool {
        matches!(&self.store, Store::Web(root) if root.query().is_some())
    }

    /// Whether a file can be written here, part by part.
    pub(super) fn takes_parts(&self) -> bool {
        !matches!(self.store, Store::Web(_))
    }

    /// A request is given up after the deadline; that it stands still is up to whoever makes it.
    pub(super) fn store(&self, deadline: Duration, retry: RetryConfig) -> Result<Box<dyn ObjectStore>> {
        let text = |duration: Duration| format!("{}ms", duration.as_millis());
        let settings = [
            (ClientConfigKey::ConnectTimeout, text(CONNECT_TIMEOUT.min(deadline / 4))),
            (ClientConfigKey::Timeout, text(deadline)),
        ];
        let settings = settings.into_iter();
        let built: object_store::Result<Box<dyn ObjectStore>> = match &self.store {
            Store::S3(builder) => settings
                .fold((**builder).clone(), |b, (key, value)| b.with_config(AmazonS3ConfigKey::Client(key), value))
                .with_retry(retry)
                .build()
                .map(|store| Box::new(store) as _),
            Store::Google(builder) => settings
                .fold((**builder).clone(), |b, (key, value)| b.with_config(GoogleConfigKey::Client(key), value))
                .with_retry(retry)
                .build()
                .map(|store| Box::new(store) as _),
            Store::Azure(builder) => settings
                .fold((**builder).clone(), |b, (key, value)| b.with_config(AzureConfigKey::Client(key), value))
                .with_retry(retry)
                .build()
                .map(|store| Box::new(store) as _),
            Store::Web(root) => settings
                .chain([(ClientConfigKey::AllowHttp, "true".to_owned())])
                .fold(HttpBuilder::new(), |b, (key, value)| b.with_config(key, value))
                .with_url(root.as_str())
                .with_retry(retry)
                .build()
                .map(|store| Box::new(store) as _),
        };
        built.map_err(|e| Error::Invalid(format!("{}: {}", self.name, super::failure::text(&e))))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The environment's variables, and what they leave open by the files of AWS's own tools.
fn s3(bucket: &str) -> Result<AmazonS3Builder> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    let profile = Profile::load()?;
    let is_set = |builder: &AmazonS3Builder, key| builder.get_config_value(&key).is_some();
    if let Some((name, way)) = profile.without_keys
        && !is_set(&builder, AmazonS3ConfigKey::AccessKeyId)
        && !is_set(&builder, AmazonS3ConfigKey::WebIdentityTokenFile)
        && builder.get_config_value(&AmazonS3ConfigKey::SkipSignature).as_deref() != Some("true")
    {
        let help = format!("aws configure export-credentials --profile {name} --format env");
        let what = format!("the AWS profile {name:?} has no keys, and {way} is not known here; `{help}` gives some");
        return Err(Error::Invalid(what));
    }
    if let Some((key, secret)) = profile.keys.filter(|_| !is_set(&builder, AmazonS3ConfigKey::AccessKeyId)) {
        builder = builder.with_access_key_id(key).with_secret_access_key(secret);
        if let Some(token) = profile.session_token {
            builder = builder.with_token(token);
        }
    }
    if let Some(region) = profile.region.filter(|_| !is_set(&builder, AmazonS3ConfigKey::Region)) {
        builder = builder.with_region(region);
    }
    if let Some(place) = profile.endpoint.filter(|_| endpoint(&builder).is_none()) {
        builder = builder.with_endpoint(place);
    }
    // Whoever names a server without encryption has decided that.
    let plain = endpoint(&builder).is_some_and(|endpoint| endpoint.starts_with("http://"));
    Ok(if plain { builder.with_allow_http(true) } else { builder })
}

/// The server that is asked, if it is not Amazon's.
fn endpoint(builder: &AmazonS3Builder) -> Option<String> {
    let get = |key| builder.get_config_value(&key);
    get(AmazonS3ConfigKey::S3Endpoint).or_else(|| get(AmazonS3ConfigKey::Endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<Address> {
        Address::parse(Path::new(text))
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in [
            "s3://",
            "s3:///key",
            "s3://bucket",
            "gs://bucket/",
            "s3://bucket/key?versionId=1",
            "https://host/a#b",
            "http://",
        ] {
            address(bad).expect_err(bad);
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let signed = address("https://host/models/phi-4.upg?X-Amz-Signature=secret").expect("an address");
        assert_eq!(signed.name(), "https://host/models/phi-4.upg");
        assert!(!format!("{signed:?}").contains("secret"));
        let error = address("https://user:secret@host/phi-4.upg").expect_err("has a password");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
