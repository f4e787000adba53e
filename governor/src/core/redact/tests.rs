//! Real command lines: what must go is gone, what must stay stays.

use proptest::prelude::*;

use super::*;

/// Command line, its cleaned form. Blanks separate arguments; `␣` stands for a blank inside one, `␍` for CR LF.
const LINES: &[(&str, &str)] = &[
    (
        "ffmpeg -re -i in.mp4 -c copy -f flv rtmp://a.rtmp.youtube.com/live2/abcd-efgh-ijkl-mnop-qrst",
        "ffmpeg -re -i in.mp4 -c copy -f flv rtmp://a.rtmp.youtube.com/live2/***",
    ),
    (
        "ffmpeg -i in -f flv rtmps://live-api-s.facebook.com:443/rtmp/FB-1234-0-SECRET?s_bl=1&s_ps=1&a=SECRET2",
        "ffmpeg -i in -f flv rtmps://live-api-s.facebook.com:443/rtmp/***?s_bl=***&s_ps=***&a=***",
    ),
    (
        "ffmpeg -i in -f flv rtmp://live.twitch.tv/app/live_12345678_SECRETSECRETSECRET?bandwidthtest=true",
        "ffmpeg -i in -f flv rtmp://live.twitch.tv/app/***?bandwidthtest=***",
    ),
    (
        "ffmpeg -i in -f tee [f=flv:onfail=ignore]rtmp://a/live/SECRET|[f=flv]rtmp://b/app/inst/SECRET2|[f=mpegts]out.ts",
        "ffmpeg -i in -f tee [f=flv:onfail=ignore]rtmp://a/live/***|[f=flv]rtmp://b/app/***|[f=mpegts]out.ts",
    ),
    (
        "ffmpeg -i in -f mpegts srt://relay:9000?mode=caller&passphrase=SECRET&pbkeylen=16&latency=200",
        "ffmpeg -i in -f mpegts srt://relay:9000?mode=caller&passphrase=***&pbkeylen=16&latency=200",
    ),
    (
        "ffmpeg -i srt://[2001:db8::1]:9000?streamid=#!::r=SECRET,m=publish&latency=200 out.ts",
        "ffmpeg -i srt://[2001:db8::1]:9000?streamid=***&latency=200 out.ts",
    ),
    (
        "ffmpeg -rtsp_transport tcp -i rtsp://admin:SECRET@10.0.0.5:554/Streaming/Channels/101 -c copy out.mkv",
        "ffmpeg -rtsp_transport tcp -i rtsp://admin:***@10.0.0.5:554/Streaming/Channels/101 -c copy out.mkv",
    ),
    (
        "ffmpeg -i rtsp://admin:SE@CR'ET@cam/1 out.mkv",
        "ffmpeg -i rtsp://admin:***@cam/1 out.mkv",
    ),
    (
        "ffmpeg -i rtsp://admin:SEC/RE?T@cam/1 out.mkv",
        "ffmpeg -i rtsp://admin:***@cam/1 out.mkv",
    ),
    (
        "ffmpeg -i in -f mp3 icecast://source:SECRET@ice:8000/live.mp3",
        "ffmpeg -i in -f mp3 icecast://source:***@ice:8000/live.mp3",
    ),
    (
        "ffmpeg -i https://ghtokenSECRET@host/x.mp4 out.mp4",
        "ffmpeg -i https://***@host/x.mp4 out.mp4",
    ),
    (
        "ffmpeg -i sftp://alice@host/x.mp4 out.mp4",
        "ffmpeg -i sftp://alice@host/x.mp4 out.mp4",
    ),
    (
        "ffmpeg -i https://b.s3.amazonaws.com/v.mp4?X-Amz-Algorithm=AWS4&X-Amz-Credential=AKIASECRET&X-Amz-Date=1&X-Amz-Expires=9&X-Amz-Signature=SECRET&versionId=7 o.mp4",
        "ffmpeg -i https://b.s3.amazonaws.com/v.mp4?X-Amz-Algorithm=***&X-Amz-Credential=***&X-Amz-Date=***&X-Amz-Expires=***&X-Amz-Signature=***&versionId=7 o.mp4",
    ),
    (
        "ffmpeg -i https://d1.cloudfront.net/m.m3u8?Policy=SECRET&Signature=SECRET&Key-Pair-Id=SECRET&quality=hd o.mp4",
        "ffmpeg -i https://d1.cloudfront.net/m.m3u8?Policy=***&Signature=***&Key-Pair-Id=***&quality=hd o.mp4",
    ),
    (
        "ffmpeg -i https://acc.blob.core.windows.net/c/v.mp4?sv=2022&sp=r&sig=SECRET o.mp4",
        "ffmpeg -i https://acc.blob.core.windows.net/c/v.mp4?sv=2022&sp=r&sig=*** o.mp4",
    ),
    (
        "ffmpeg -i https://storage.googleapis.com/b/v.mp4?X-Goog-Signature=SECRET&generation=1 o.mp4",
        "ffmpeg -i https://storage.googleapis.com/b/v.mp4?X-Goog-Signature=***&generation=1 o.mp4",
    ),
    (
        "ffmpeg -i https://cdn/x/hdnts=exp=1~acl=/*~hmac=SECRET/m.m3u8 o.ts",
        "ffmpeg -i https://cdn/x/hdnts=*** o.ts",
    ),
    (
        "ffmpeg -i https://cdn/m.m3u8?token=SECRET;SECRET2&t=10 -vf scale=1280:720 o.ts",
        "ffmpeg -i https://cdn/m.m3u8?token=***&t=10 -vf scale=1280:720 o.ts",
    ),
    (
        "ffmpeg -headers Authorization:␣Bearer␣SECRET␍Referer:␣https://site/␍ -i https://h/m.m3u8 o.ts",
        "ffmpeg -headers Authorization:␣***\\r\\nReferer:␣https://site/\\r\\n -i https://h/m.m3u8 o.ts",
    ),
    (
        "ffmpeg -headers Authorization:␣Digest␣username=\"bob\",␣response=\"SECRET\" -i https://h/m.m3u8 o.ts",
        "ffmpeg -headers Authorization:␣*** -i https://h/m.m3u8 o.ts",
    ),
    (
        "ffmpeg -headers X-Api-Key:␣SECRET\\r\\nAccept:␣*/* -i https://h/m.m3u8 o.ts",
        "ffmpeg -headers X-Api-Key:␣***\\r\\nAccept:␣*/* -i https://h/m.m3u8 o.ts",
    ),
    (
        "ffmpeg -cookies session=SECRET;␣path=/ -i https://h/x o.ts",
        "ffmpeg -cookies *** -i https://h/x o.ts",
    ),
    (
        "ffmpeg -decryption_key 00112233SECRET -i enc.mp4 -c copy out.mp4",
        "ffmpeg -decryption_key *** -i enc.mp4 -c copy out.mp4",
    ),
    (
        "ffmpeg -i in -encryption_scheme cenc-aes-ctr -encryption_key SECRET -encryption_kid 0123 out.mp4",
        "ffmpeg -i in -encryption_scheme cenc-aes-ctr -encryption_key *** -encryption_kid 0123 out.mp4",
    ),
    (
        "ffmpeg -key SECRET -iv SECRET -i crypto:enc.ts -pass 1 -passlogfile log o.ts",
        "ffmpeg -key *** -iv *** -i crypto:enc.ts -pass 1 -passlogfile log o.ts",
    ),
    (
        "ffmpeg -i in -f rtp -srtp_out_suite AES_CM_128_HMAC_SHA1_80 -srtp_out_params SECRET srtp://h:5000",
        "ffmpeg -i in -f rtp -srtp_out_suite AES_CM_128_HMAC_SHA1_80 -srtp_out_params *** srtp://h:5000",
    ),
    (
        "ffmpeg -i in -passphrase -1SECRET srt://h:1",
        "ffmpeg -i in -passphrase *** srt://h:1",
    ),
    (
        "ffmpeg -i in -f whip -authorization SECRET https://whip/endpoint",
        "ffmpeg -i in -f whip -authorization *** https://whip/endpoint",
    ),
    (
        "ffmpeg -i in -f flv rtmp://h/app␣playpath=SECRET␣live=1",
        "ffmpeg -i in -f flv rtmp://h/app␣playpath=***␣live=1",
    ),
    (
        "ffmpeg -i in -rtmp_playpath SECRET -f flv rtmp://h/app",
        "ffmpeg -i in -rtmp_playpath *** -f flv rtmp://h/app",
    ),
    (
        "ffmpeg -i in -method POST -f hls https://a.upload.youtube.com/http_upload_hls?cid=SECRET&copy=0&file=x.m3u8",
        "ffmpeg -i in -method POST -f hls https://a.upload.youtube.com/http_upload_hls?cid=***&copy=0&file=x.m3u8",
    ),
    (
        "gst-launch-1.0 videotestsrc ! x264enc ! flvmux ! rtmpsink location=rtmp://h/live/SECRET␣live=1",
        "gst-launch-1.0 videotestsrc ! x264enc ! flvmux ! rtmpsink location=rtmp://h/live/***␣live=1",
    ),
    (
        "gst-launch-1.0 videotestsrc ! rtmp2sink host=h application=live stream=SECRET username=u password=SECRET",
        "gst-launch-1.0 videotestsrc ! rtmp2sink host=h application=live stream=*** username=u password=***",
    ),
    (
        "gst-launch-1.0 rtspsrc location=rtsp://cam/1 user-id=admin user-pw=SECRET ! fakesink",
        "gst-launch-1.0 rtspsrc location=rtsp://cam/1 user-id=admin user-pw=*** ! fakesink",
    ),
    (
        "gst-launch-1.0 videotestsrc ! srtsink uri=srt://h:1?streamid=SECRET passphrase=SECRET pbkeylen=16",
        "gst-launch-1.0 videotestsrc ! srtsink uri=srt://h:1?streamid=*** passphrase=*** pbkeylen=16",
    ),
    (
        "gst-launch-1.0 a ! whipclientsink signaller::whip-endpoint=https://h/w signaller::auth-token=SECRET",
        "gst-launch-1.0 a ! whipclientsink signaller::whip-endpoint=https://h/w signaller::auth-token=***",
    ),
    (
        "gst-launch-1.0 a ! awss3sink access-key=AKIASECRETSECRETSE12 secret-access-key=SECRET session-token=SECRET bucket=b",
        "gst-launch-1.0 a ! awss3sink access-key=*** secret-access-key=*** session-token=*** bucket=b",
    ),
    (
        "gst-launch-1.0 a ! shout2send ip=h port=8000 password=SECRET␣WORD mount=/x",
        "gst-launch-1.0 a ! shout2send ip=h port=8000 password=*** mount=/x",
    ),
    (
        "env AWS_SECRET_ACCESS_KEY=SECRET RTMP_KEY=SECRET DB_PASS=SECRET LANG=C ffmpeg -i in",
        "env AWS_SECRET_ACCESS_KEY=*** RTMP_KEY=*** DB_PASS=*** LANG=C ffmpeg -i in",
    ),
    (
        "sh -c TOKEN=\"SECRET␣SECRET\"␣ffmpeg␣-password␣SECRET␣-i␣in␣rtmp://h/a/SECRET",
        "sh -c TOKEN=***␣ffmpeg␣-password␣***␣-i␣in␣rtmp://h/a/***",
    ),
    (
        "sh -c curl␣-H␣'Authorization:␣Basic␣SECRET'␣https://h/x",
        "sh -c curl␣-H␣'Authorization:␣***'␣https://h/x",
    ),
    (
        "curl -u bob:SECRET --token=SECRET https://h/x",
        "curl -u bob:*** --token=*** https://h/x",
    ),
    (
        "tool --json {\"accessToken\":␣\"SECRET\",␣\"a\":␣1}",
        "tool --json {\"accessToken\":␣\"***\",␣\"a\":␣1}",
    ),
    (
        "ffmpeg -metadata comment=AKIAABCDEFGHIJKLSECR -metadata copyright=ghp_SECRETSECRETSECRETSECRET o.mp4",
        "ffmpeg -metadata comment=*** -metadata copyright=*** o.mp4",
    ),
];

/// Lines that hold no secret and stay as they are.
const INNOCENT: &[&str] = &[
    "ffmpeg -y -i in.mp4 -c:v libx264 -preset slow -x264-params keyint=60:pass=1:stats=x.log -pass 1 out.mp4",
    "ffmpeg -f lavfi -i testsrc=duration=10:size=1920x1080:rate=30 -metadata title=Keys␣of␣life out.mp4",
    "ffmpeg -i in -filter_complex [0:v]split=2[a][b];[a]scale=w=1280:h=720[x] -map [x] -map 0:a? out.mp4",
    "ffmpeg -i http://host:8080/path@2x/a.m3u8?quality=hd&t=3 -hls_key_info_file k.info out.m3u8",
    "ffmpeg -i in -f mpegts udp://239.0.0.1:1234?pkt_size=1316&ttl=4",
    "ffmpeg -i in -force_key_frames expr:gte(t,n_forced*2) -g 48 -keyint_min 48 out.mp4",
    "ffmpeg -hls_segment_filename f-%03d.ts -i rtmp://h/app out.m3u8",
    "gst-launch-1.0 videotestsrc num-buffers=100 ! video/x-raw,width=640 ! x264enc key-int-max=30 ! fakesink",
    "ffmpeg -i Müller–日本語.mp4 -vf drawtext=text='a\\:b' out.mp4",
    "ffmpeg -i 123e4567-e89b-12d3-a456-426614174000.mp4 out.mp4",
];

fn argv(line: &str) -> Vec<String> {
    line.split(' ')
        .map(|arg| arg.replace('␣', " ").replace('␍', "\r\n"))
        .collect()
}

fn shown(argv: &[String]) -> String {
    argv.iter()
        .map(|arg| arg.replace(' ', "␣"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn the_default_patterns_compile() {
    assert!(matches!(Redactor::default().defaults, Built::On(_)));
}

#[test]
fn secrets_never_survive_and_the_rest_stays() {
    let redactor = Redactor::default();
    for (line, want) in LINES {
        let clean = redactor.clean(&argv(line));
        assert_eq!(shown(&clean), *want);
        let values = shown(&clean).replace("AWS_SECRET_ACCESS_KEY", "");
        assert!(!values.contains("SECR"), "{line}");
        assert_eq!(redactor.clean(&clean), clean, "a second pass changed {line}");
    }
    assert!(LINES.len() >= 25);
}

#[test]
fn command_lines_without_secrets_are_left_alone() {
    for line in INNOCENT {
        assert_eq!(shown(&Redactor::default().clean(&argv(line))), *line);
    }
}

#[test]
fn a_patterns_group_is_what_it_replaces() {
    let own = vec![
        Regex::new("/upload/([^/]+)/").unwrap(),
        Regex::new("hunter2").unwrap(),
    ];
    let redactor = Redactor::new(own.clone(), true);
    assert_eq!(
        shown(&redactor.clean(&argv("ffmpeg https://h/upload/abc/x hunter2hunter2 -password y"))),
        "ffmpeg https://h/upload/***/x ****** -password ***"
    );
    let alone = Redactor::new(own, false);
    assert_eq!(
        shown(&alone.clean(&argv("ffmpeg -password y hunter2"))),
        "ffmpeg -password y ***"
    );
    assert_eq!(
        redactor.text("opening rtmp://h/a/k\n"),
        "opening rtmp://h/a/***\\n"
    );
}

#[test]
fn an_empty_match_of_an_own_pattern_changes_nothing() {
    let redactor = Redactor::new(vec![Regex::new("x*").unwrap()], false);
    assert_eq!(redactor.text("abxxc"), "ab***c");
}

#[test]
fn control_and_direction_characters_are_escaped() {
    for (raw, want) in [
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}"),
        ("\u{9b}2J\u{7f}", "\\u{9b}2J\\u{7f}"),
        ("x\u{202e}gpj.exe\u{2066}", "x\\u{202e}gpj.exe\\u{2066}"),
        ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
        ("Grüße 日本語 🎬 \\n", "Grüße 日本語 🎬 \\n"),
    ] {
        assert_eq!(harmless(raw), want);
    }
}

proptest! {
    #[test]
    fn harmless_text_has_no_harmful_character_and_stays_as_it_is(text in "\\PC*|[\\x00-\\u{10ffff}]{0,40}") {
        let clean = harmless(&text);
        prop_assert!(!clean.contains(is_harmful));
        prop_assert_eq!(harmless(&clean), clean.clone());
        if !text.contains(is_harmful) { prop_assert_eq!(clean, text); }
    }

    #[test]
    fn any_arguments_are_cleaned_without_changing_their_number(argv in proptest::collection::vec(".{0,60}", 0..6)) {
        let clean = Redactor::default().clean(&argv);
        prop_assert_eq!(clean.len(), argv.len());
        for arg in &clean { prop_assert!(!arg.contains(is_harmful)); }
    }

    #[test]
    fn a_stream_key_never_survives(key in "[A-Za-z0-9_-]{6,30}", app in "[a-z]{1,5}", scheme in "rtmp|rtmps|rtmpt|rtmpe") {
        let line = vec![format!("{scheme}://h/{app}/{key}"), format!("[f=flv]{scheme}://h/{app}/{key}|x"), format!("-password"), key.clone()];
        for arg in Redactor::default().clean(&line) { prop_assert!(!arg.contains(&key)); }
    }

    #[test]
    fn a_password_in_a_url_never_survives(password in "[A-Za-z0-9!$%^*,;'-]{6,30}", scheme in "rtsp|http|https|ftp|icecast|srt") {
        let clean = Redactor::default().clean(&[format!("{scheme}://user:{password}@host/p")]);
        prop_assert_eq!(clean, vec![format!("{scheme}://user:***@host/p")]);
    }
}
