//! Which names announce a secret. Pure tables; knows nothing of URLs or of arguments around the name.

/// What the argument after an option is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OptionKind {
    /// Nothing special.
    Plain,
    /// A secret as a whole.
    Secret,
    /// `user:password` (curl's `-u`).
    UserAndPassword,
}

/// Names that are secrets wherever they stand, compared after folding to lower case and `_`. A name also counts when
/// it ends in `_` and one of these, so that `rtmp_stream_key` and `auth-token` do.
const SECRET: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "jwt",
    "api_key",
    "apikey",
    "access_key",
    "accesskey",
    "accesskeyid",
    "access_key_id",
    "secret_key",
    "secretkey",
    "private_key",
    "privatekey",
    "stream_key",
    "streamkey",
    "encryption_key",
    "decryption_key",
    "decryption_keys",
    "enc_key",
    "auth_key",
    "authkey",
    "license_key",
    "crypto_key",
    "cryptokey",
    "shared_key",
    "signing_key",
    "account_key",
    "sas_token",
    "credential",
    "credentials",
    "signature",
    "authorization",
    "user_pw",
    "userpw",
    "playpath",
    "hmac",
    "hdnts",
    "hdnea",
    "hdntl",
    "client_secret",
    "connection_string",
    "accesstoken",
    "authtoken",
    "sessiontoken",
    "security_token",
    "wssecret",
    "txsecret",
];

/// Options of ffmpeg, `GStreamer` tools and common helpers whose value is a secret although the bare name is too general
/// to be one elsewhere: the crypto protocol's `-key` and `-iv`, SRTP parameters, cookies, `librtmp`'s `-rtmp_conn`.
const SECRET_OPTION: &[&str] = &[
    "key",
    "iv",
    "hls_enc_iv",
    "cookies",
    "cookie",
    "srtp_in_params",
    "srtp_out_params",
    "streamid",
    "srt_streamid",
    "rtmp_playpath",
    "rtmp_conn",
    "oauth2_bearer",
    "auth",
    "bearer",
    "sign_key",
];

/// Query parameters that make a URL work for whoever has it: the signed-URL schemes of AWS, Google, Azure, Akamai,
/// `CloudFront`, Tencent, Alibaba and nginx, SRT's stream id and `YouTube`'s `cid`. Names starting with `x_amz_` or `x_goog_` count as well.
const SECRET_QUERY: &[&str] = &[
    "key",
    "sig",
    "sign",
    "auth",
    "policy",
    "expires",
    "expiry",
    "key_pair_id",
    "awsaccesskeyid",
    "googleaccessid",
    "streamid",
    "pass",
    "pwd",
    "code",
    "session",
    "sessionid",
    "session_id",
    "sid",
    "cid",
    "ticket",
    "hash",
    "md5",
    "txtime",
    "wstime",
    "st",
    "e",
    "exp",
    "nonce",
    "pkey",
    "pk",
    "sk",
    "iv",
];

/// Headers that carry a secret and whose names do not say so.
const SECRET_HEADER: &[&str] = &[
    "authorization",
    "proxy_authorization",
    "cookie",
    "set_cookie",
    "x_auth",
    "x_auth_user",
];

/// Endings of shouted names (environment variables) that are too general in lower case: `pass=1` is x264's.
const SECRET_SHOUTED: &[&str] = &["PASS", "PW", "PWD", "KEY", "AUTH", "CRED", "CREDS", "PAT", "DSN"];

fn fold(name: &str) -> String {
    name.to_ascii_lowercase().replace(['-', '.'], "_")
}

fn ends_in(folded: &str, table: &[&str]) -> bool {
    table.iter().any(|word| {
        folded
            .strip_suffix(word)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
    })
}

/// True for the name of `name=value`, as in options, properties and the environment.
pub(super) fn is_secret(name: &str) -> bool {
    if ends_in(&fold(name), SECRET) || camel_ends_in_secret(name) {
        return true;
    }
    let shouted = !name.contains(|c: char| c.is_ascii_lowercase()) && name.contains('_');
    shouted
        && SECRET_SHOUTED
            .iter()
            .any(|word| name.strip_suffix(word).is_some_and(|rest| rest.ends_with('_')))
}

/// `accessToken`, `streamKey`: folds the humps, then asks the table.
fn camel_ends_in_secret(name: &str) -> bool {
    if !name.contains(|c: char| c.is_ascii_lowercase()) || !name.contains(|c: char| c.is_ascii_uppercase()) {
        return false;
    }
    let mut humps = String::with_capacity(name.len() + 4);
    let mut before_lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && before_lower {
            humps.push('_');
        }
        before_lower = c.is_ascii_lowercase();
        humps.push(c);
    }
    ends_in(&fold(&humps), SECRET)
}

/// True for a query parameter.
pub(super) fn is_secret_query(name: &str) -> bool {
    let folded = fold(name.strip_prefix("amp;").unwrap_or(name));
    folded.starts_with("x_amz_")
        || folded.starts_with("x_goog_")
        || SECRET_QUERY.contains(&folded.as_str())
        || is_secret(name)
}

/// True for a header.
pub(super) fn is_secret_header(name: &str) -> bool {
    let folded = fold(name);
    SECRET_HEADER.contains(&folded.as_str()) || is_secret(name)
}

/// True for the name of an option without its dashes.
pub(super) fn is_secret_option(name: &str) -> bool {
    let folded = fold(name);
    SECRET_OPTION.contains(&folded.as_str()) || ends_in(&folded, SECRET)
}

/// What the argument after this one is. A stream specifier (`-key:v`) belongs to the option.
pub(super) fn option_kind(arg: &str) -> OptionKind {
    let Some(name) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
        return OptionKind::Plain;
    };
    if name.is_empty() || name.contains(['=', ' ', '/']) {
        return OptionKind::Plain;
    }
    match name {
        "u" | "user" | "proxy-user" => return OptionKind::UserAndPassword,
        _ => {}
    }
    let bare = name.split(':').next().unwrap_or(name);
    if is_secret_option(bare) {
        OptionKind::Secret
    } else {
        OptionKind::Plain
    }
}
