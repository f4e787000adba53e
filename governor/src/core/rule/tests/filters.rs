//! Each filter: what it takes, what it refuses, what it does with an unknown fact.

use super::*;

#[test]
fn each_test_takes_what_it_names_and_says_why_it_refuses() {
    let cases: &[(RuleSet, &str)] = &[
        (
            filtered(|f| f.users.allow = strings(&["alice", "bob"])),
            "govern by r",
        ),
        (
            filtered(|f| f.users.allow = strings(&["alice"])),
            "rule `r` wants user in [alice], this one belongs to bob",
        ),
        (
            filtered(|f| f.users.block = strings(&["bob"])),
            "rule `r` refuses user in [bob], this one belongs to bob",
        ),
        (filtered(|f| f.users.block = strings(&["alice"])), "govern by r"),
        (filtered(|f| f.users.allow = strings(&["1000"])), "govern by r"),
        (filtered(|f| f.uids.allow = vec![1000]), "govern by r"),
        (
            filtered(|f| f.uids.allow = vec![0, 33]),
            "rule `r` wants uid in [0, 33], this one belongs to uid 1000",
        ),
        (
            filtered(|f| f.uids.block = vec![1000]),
            "rule `r` refuses uid in [1000], this one belongs to uid 1000",
        ),
        (
            filtered(|f| {
                f.uids.allow = vec![1000];
                f.uids.block = vec![1000];
            }),
            "rule `r` refuses uid in [1000], this one belongs to uid 1000",
        ),
        (
            filtered(|f| f.parents.allow = vec![ParentRef::Pid(7)]),
            "govern by r",
        ),
        (
            filtered(|f| f.parents.allow = vec![ParentRef::Name("nginx".into())]),
            "govern by r",
        ),
        (
            filtered(|f| f.parents.allow = vec![ParentRef::Pid(1), ParentRef::Name("sshd".into())]),
            "rule `r` wants parent in [1, sshd], this one's is nginx (pid 7)",
        ),
        (
            filtered(|f| f.parents.block = vec![ParentRef::Pid(7)]),
            "rule `r` refuses parent in [7], this one's is nginx (pid 7)",
        ),
        (
            filtered(|f| f.dirs.allow = vec!["/srv/media".into()]),
            "govern by r",
        ),
        (
            filtered(|f| f.dirs.allow = vec!["/srv/media/in/".into()]),
            "govern by r",
        ),
        (filtered(|f| f.dirs.allow = vec!["/".into()]), "govern by r"),
        (
            filtered(|f| f.dirs.allow = vec!["/srv/med".into()]),
            "rule `r` wants working directory in [/srv/med], this one's is /srv/media/in",
        ),
        (
            filtered(|f| f.dirs.block = vec!["/srv".into()]),
            "rule `r` refuses working directory in [/srv], this one's is /srv/media/in",
        ),
        (
            filtered(|f| f.dirs.block = vec!["/srv/media/in/deeper".into()]),
            "govern by r",
        ),
        (
            filtered(|f| f.cgroups.allow = vec!["/system.slice".into()]),
            "govern by r",
        ),
        (
            filtered(|f| f.cgroups.allow = vec!["/system".into()]),
            "rule `r` wants control group in [/system], this one's is /system.slice/nginx.service",
        ),
        (
            filtered(|f| f.cgroups.block = vec!["/system.slice".into()]),
            "rule `r` refuses control group in [/system.slice], this one's is /system.slice/nginx.service",
        ),
        (filtered(|f| f.cgroup_pattern = pattern("nginx")), "govern by r"),
        (
            filtered(|f| f.cgroup_pattern = pattern("^/user")),
            "rule `r` wants a control group matching `^/user`, this one's is /system.slice/nginx.service",
        ),
        (
            filtered(|f| f.container = Some(ContainerTest::Inside(false))),
            "govern by r",
        ),
        (
            filtered(|f| f.container = Some(ContainerTest::Inside(true))),
            "rule `r` wants a container, this one is in none",
        ),
        (
            filtered(|f| f.container = Some(ContainerTest::Runtimes(strings(&["docker"])))),
            "rule `r` wants a container of [docker], this one is in none",
        ),
        (filtered(|f| f.argv = pattern("rtmps?://")), "govern by r"),
        (
            filtered(|f| f.argv = pattern("srt://")),
            "rule `r` wants arguments matching `srt://`, those of this one do not",
        ),
        (
            filtered(|f| f.not_argv = pattern("-i in")),
            "rule `r` refuses arguments matching `-i in`, those of this one do",
        ),
        (filtered(|f| f.max_age_ms = Some(5_000)), "govern by r"),
        (
            filtered(|f| f.max_age_ms = Some(1_000)),
            "rule `r` wants an age of at most 1s, this one is 5s old",
        ),
        (filtered(|f| f.min_age_ms = Some(5_000)), "govern by r"),
        (filtered(|f| f.min_age_ms = Some(5_001)), "later 5001"),
        (
            RuleSet::new(vec![rule(|r| r.commands = strings(&["gst-launch-1.0"]))]),
            "no rule names `ffmpeg`",
        ),
        (RuleSet::default(), "there are no rules"),
    ];
    for (rules, want) in cases {
        assert_eq!(told(rules, &facts(), 5_000), *want, "{rules:?}");
    }
}

#[test]
fn an_unknown_fact_never_satisfies_an_allow_list_and_never_trips_a_block_list() {
    let refused: &[(RuleSet, &str)] = &[
        (
            filtered(|f| f.users.allow = strings(&["bob"])),
            "rule `r` wants user in [bob], the user name of this one (uid 1000) is unknown",
        ),
        (
            filtered(|f| f.parents.allow = vec![ParentRef::Name("nginx".into())]),
            "rule `r` wants parent in [nginx], the parent's name (pid 7) is unknown",
        ),
        (
            filtered(|f| f.dirs.allow = vec!["/".into()]),
            "rule `r` wants working directory in [/], the working directory of this one is unknown",
        ),
        (
            filtered(|f| f.cgroups.allow = vec!["/".into()]),
            "rule `r` wants control group in [/], the control group of this one is unknown",
        ),
        (
            filtered(|f| f.cgroup_pattern = pattern("")),
            "rule `r` wants a control group matching ``, the control group of this one is unknown",
        ),
        (
            filtered(|f| f.container = Some(ContainerTest::Inside(false))),
            "rule `r` wants no container, the control group of this one is unknown",
        ),
        (
            filtered(|f| f.argv = pattern("")),
            "rule `r` wants arguments matching ``, those of this one are unknown",
        ),
    ];
    for (rules, want) in refused {
        assert_eq!(told(rules, &unknown_facts(), 0), *want);
    }
    let taken = [
        filtered(|f| f.users.block = strings(&["bob"])),
        filtered(|f| f.parents.block = vec![ParentRef::Name("nginx".into())]),
        filtered(|f| f.dirs.block = vec!["/".into()]),
        filtered(|f| f.cgroups.block = vec!["/".into()]),
        filtered(|f| f.not_argv = pattern("")),
    ];
    for rules in taken {
        assert_eq!(told(&rules, &unknown_facts(), 0), "govern by r", "{rules:?}");
    }
}
