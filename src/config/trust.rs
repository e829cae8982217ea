//! Whom a client trusts, and what it shows.

use http::Uri;

use super::connections::{pair, refuse};
use super::reader::{Noted, Reader};
use super::setting::Setting;
use super::values;
use crate::tls::ClientFiles;

const CA: Setting = Setting::value(
    "server-ca-file",
    "PATH",
    "The certificates (PEM) of the authorities that an https server's is to come from; by default those that this machine trusts",
);
const CERTIFICATE: Setting = Setting::value(
    "own-certificate-file",
    "PATH",
    "The certificate (PEM) to show an https server that asks for one",
);
const KEY: Setting = Setting::value("own-key-file", "PATH", "That certificate's private key (PEM)");

/// The settings of everything that asks a server.
pub(super) const TRUST: &[Setting] = &[CA, CERTIFICATE, KEY];

/// For asking servers at these addresses. `None`: none of them is asked over TLS.
pub(super) fn read(reader: &mut Reader<'_>, servers: &[Uri]) -> Result<Option<ClientFiles>, Noted> {
    let authorities = reader.optional(CA, values::path);
    let certificate = reader.optional(CERTIFICATE, values::path);
    let key = reader.optional(KEY, values::path);
    let (authorities, certificate, key) = (authorities?, certificate?, key?);
    let own = pair(reader, (CERTIFICATE, certificate), (KEY, key))?;
    let files = ClientFiles { authorities, own };
    if servers.iter().any(|server| server.scheme_str() == Some("https")) {
        let checked = files.check();
        refuse(reader, checked, [&CERTIFICATE, &KEY, &CA])?;
        return Ok(Some(files));
    }
    let ClientFiles { authorities, own } = files;
    for (setting, given) in [(CA, authorities.is_some()), (CERTIFICATE, own.is_some())] {
        // Of an address that cannot be read nothing more is said; and a variable may be there for another command.
        let is_meant = reader.origin(setting).is_some_and(|origin| origin.is_argument());
        if given && is_meant && !servers.is_empty() {
            reader.refuse(
                setting.argument(),
                "means nothing where nothing is asked over TLS; the address begins with http://",
            );
        }
    }
    Ok(None)
}
