//! What cloud-init 22.4.2 makes of sections that do not fit, and in which order it takes them.

use serde_json::{Value, json};

use super::{KEY, boot, plan};

/// What a machine makes of a document whose fields these are.
fn cloud_config(fields: &Value) -> String {
    format!("#cloud-config\n{fields}\n")
}

#[test]
fn bootcmd_runs_before_files_are_written() {
    let up = format!("tailscale up --auth-key={KEY}");
    let key = json!([{ "path": "/k", "content": KEY }]);
    for (fields, expected) in [
        (json!({ "bootcmd": [format!("{up} --hostname=a")] }), Ok("a")),
        (json!({ "bootcmd": [["tailscale", "up", format!("--auth-key={KEY}")]], "hostname": "b" }), Ok("server-name")),
        (
            json!({ "bootcmd": ["echo KEY >/k"], "write_files": key, "runcmd": ["tailscale up --auth-key=file:/k"] }),
            Ok("server-name"),
        ),
        (json!({ "bootcmd": ["hostnamectl set-hostname c"], "runcmd": [up] }), Ok("c")),
        (json!({ "bootcmd": [format!("cat >/j <<EOF\n{up} --hostname=d\nEOF")], "runcmd": ["sh /j"] }), Ok("d")),
        // A script of its own: how it ends decides nothing for what comes.
        (json!({ "bootcmd": ["exit 1"], "runcmd": [format!("{up} --hostname=e")] }), Ok("e")),
        (json!({ "bootcmd": "text", "runcmd": [format!("{up} --hostname=f")] }), Ok("f")),
        (json!({ "bootcmd": [5], "runcmd": [format!("{up} --hostname=g")] }), Ok("g")),
        (json!({ "bootcmd": ["N=x"], "runcmd": [format!("{up} --hostname=h$N")] }), Ok("h")),
        (json!({ "bootcmd": ["tailscale up --auth-key=file:/k"], "write_files": key }), Err("no file /k")),
        (json!({ "bootcmd": [5, format!("{up} --hostname=i")] }), Err("neither text nor list")),
        (json!({ "bootcmd": null, "runcmd": null }), Err("no list")),
    ] {
        let found = plan(&cloud_config(&fields)).map(|plan| plan.hostname);
        match expected {
            Ok(name) => assert_eq!(found.as_deref(), Ok(name), "{fields}"),
            Err(why) => assert!(found.clone().is_err_and(|error| error.contains(why)), "{fields}: {found:?}"),
        }
    }
}

#[test]
fn a_bad_entry_costs_the_files_behind_it() {
    // The key stands behind the entry, or the entry is the key's own.
    let behind = |entry: Value| (json!([entry, { "path": "/k", "content": KEY }]), entry.to_string());
    let own = |mut entry: Value| {
        entry["path"] = json!("/k");
        entry["content"] = json!(KEY);
        (json!([entry]), entry.to_string())
    };
    let late = |entry: Value| (json!([{ "path": "/k", "content": KEY, "defer": true }, entry]), entry.to_string());
    let early = |entry: Value| (json!([{ "path": "/k", "content": KEY }, entry]), entry.to_string());
    for ((files, entry), is_written) in [
        (behind(json!({ "path": "/x" })), true),
        (behind(json!({ "content": "x" })), true),
        (behind(json!({ "path": "", "content": "x" })), true),
        (behind(json!({ "path": "/x", "content": "x", "encoding": "rot13" })), true),
        (behind(json!({ "path": "/x", "permissions": "rwx" })), true),
        (behind(json!({ "path": "/x", "permissions": 384 })), true),
        (behind(json!({ "path": "/x", "permissions": [7] })), true),
        (behind(json!({ "path": "/x", "owner": "www-data:root" })), true),
        (behind(json!({ "path": "/x", "owner": "-1:none" })), true),
        (behind(json!({ "path": "/x", "owner": "nginx:nginx" })), false),
        (behind(json!({ "path": "/x", "owner": "root:nginx" })), false),
        (behind(json!({ "path": "/x", "owner": "0:0" })), false),
        (behind(json!({ "path": "/x", "owner": 0 })), true),
        (behind(json!({ "path": "/x", "content": 5 })), false),
        (behind(json!({ "path": "/x", "content": null })), false),
        (behind(json!({ "path": "/x", "content": "***", "encoding": "b64" })), true),
        (behind(json!({ "path": "/x", "content": "abc", "encoding": "b64" })), false),
        (behind(json!({ "path": "/x", "content": "abcd", "encoding": "gz+b64" })), false),
        (behind(json!({ "path": "/x", "content": "abcd", "encoding": "gzip" })), false),
        (behind(json!({ "path": 5 })), false),
        (behind(json!("text")), false),
        (behind(json!(5)), false),
        // A stranger's file is written before it turns out whose it should be.
        (own(json!({ "owner": "nginx:nginx" })), true),
        (own(json!({ "permissions": "rwx" })), true),
        (own(json!({ "encoding": " TEXT/plain " })), true),
        (own(json!({ "append": "yes" })), true),
        (own(json!({ "encoding": 5 })), false),
        // The stages are apart.
        (late(json!({ "path": "/x", "owner": "nginx:nginx" })), true),
        (late(json!(5)), false),
        (early(json!({ "path": "/x", "owner": "nginx:nginx", "defer": true })), true),
        (early(json!(5)), false),
        (early(json!("text")), true),
    ] {
        let fields = json!({ "write_files": files, "runcmd": ["tailscale up --auth-key=file:/k"] });
        let boot = boot(&cloud_config(&fields));
        assert_eq!(boot.join.is_ok(), is_written, "{entry}: {:?}", boot.log);
    }
    for files in [json!("x"), json!({ "path": "/k", "content": KEY }), Value::Null, json!(5)] {
        let fields = json!({ "write_files": files, "runcmd": ["tailscale up --auth-key=file:/k"] });
        assert!(plan(&cloud_config(&fields)).is_err(), "{files}");
    }
}

#[test]
fn files_that_are_put_off_know_the_documents_users() {
    let fields = |defer: bool| {
        json!({
            "users": ["default", { "name": "app" }], "groups": ["web", { "ops": ["app"] }],
            "write_files": [
                { "path": "/a", "owner": "app:web", "defer": defer }, { "path": "/b", "owner": "root:ops", "defer": defer },
                { "path": "/k", "content": KEY, "defer": defer },
            ],
            "runcmd": ["tailscale up --auth-key=file:/k"],
        })
    };
    assert!(plan(&cloud_config(&fields(true))).is_ok());
    let error = plan(&cloud_config(&fields(false))).unwrap_err();
    assert!(error.contains("no file /k"), "{error}");
}

#[test]
fn paths_are_taken_from_the_root() {
    for path in ["k", "./k", "/x/../k", "//k", "/k/"] {
        let files = json!([{ "path": path, "content": KEY }]);
        let fields = json!({ "write_files": files, "runcmd": ["tailscale up --auth-key=file:/k"] });
        assert!(plan(&cloud_config(&fields)).is_ok(), "{path}");
    }
}

#[test]
fn what_decides_nothing_is_noted() {
    let fields = json!({
        "users": ["default"], "packages": ["nginx"], "package_update": true,
        "runcmd": [format!("tailscale up --auth-key={KEY}")],
    });
    let boot = boot(&cloud_config(&fields));
    assert!(boot.join.is_ok());
    let noted = ["users is not followed here", "package_update is not followed here", "packages is not followed here"];
    assert_eq!(boot.log[..3], noted);
}

#[test]
fn the_vendors_full_name_makes_a_documents_name_count_as_it_is() {
    let up = format!("tailscale up --auth-key={KEY}");
    for (fields, expected) in [
        (json!({ "hostname": "a.b", "runcmd": [up] }), "a.b"),
        (json!({ "fqdn": "a.b.c", "runcmd": [up] }), "a"),
        (json!({ "fqdn": "a.b.c", "hostname": "x.y", "runcmd": [up] }), "x.y"),
        (json!({ "hostname": "", "runcmd": [up] }), "server-name"),
        (json!({ "hostname": "x", "preserve_hostname": true, "runcmd": [up] }), "server-name"),
        (json!({ "hostname": "x", "fqdn": "f.g", "prefer_fqdn_over_hostname": true, "runcmd": [up] }), "f.g"),
    ] {
        assert_eq!(plan(&cloud_config(&fields)).unwrap().hostname, expected, "{fields}");
    }
    let document = cloud_config(&json!({ "runcmd": [up] }));
    assert_eq!(super::first_boot(Some(&document), "srv.example.com").join.unwrap().hostname, "srv");
}
