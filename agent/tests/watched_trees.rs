// SPDX-License-Identifier: Apache-2.0
//! Watched trees: directories that come, go and move, slower and faster than they can be followed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use support::watch::{folder, kernel_watches, Watch};
use support::{exists, Agent};

#[test]
fn new_directories_are_followed_to_any_depth() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    fs::create_dir_all(format!("{}/old/deep", root)).unwrap();
    let mut watch = Watch::start(&agent, &root, true);

    fs::write(format!("{}/old/deep/f", root), b"").unwrap();
    assert_eq!(watch.news(), ["created /old/deep/f"]);
    fs::create_dir_all(format!("{}/a/b", root)).unwrap();
    assert_eq!(watch.news(), ["created /a/", "created /a/b/"]);
    fs::write(format!("{}/a/b/f", root), b"").unwrap();
    assert_eq!(watch.news(), ["created /a/b/f"]);
    fs::remove_dir_all(format!("{}/a", root)).unwrap();
    assert_eq!(watch.news(), ["removed /a/b/f", "removed /a/b/", "removed /a/"]);
}

#[test]
fn nothing_made_in_directories_that_are_just_made_is_lost_or_told_twice() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let mut watch = Watch::start(&agent, &root, true);
    let script = "for i in $(seq 300); do mkdir -p $i/a/b/c; echo x > $i/a/b/c/f; : > $i/a/g; done";

    let made = Command::new("sh").args(["-c", script]).current_dir(&root).status().unwrap();

    assert!(made.success());
    let news = watch.news();
    let created: Vec<&String> = news.iter().filter(|line| line.starts_with("created")).collect();
    let names: BTreeSet<&&String> = created.iter().collect();
    assert_eq!((created.len(), names.len()), (1800, 1800));
    assert_eq!(news.iter().filter(|line| line.starts_with("overflow")).count(), 0);
}

#[test]
fn renamed_directory_is_told_of_under_its_new_name() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let at = |name: &str| format!("{}/{}", root, name);
    fs::create_dir_all(at("a/b/c")).unwrap();
    fs::create_dir_all(at("n")).unwrap();
    let mut watch = Watch::start(&agent, &root, true);

    fs::rename(at("a/b"), at("n/m")).unwrap();
    fs::write(at("n/m/c/f"), b"").unwrap();
    assert_eq!(watch.news(), ["renamed /a/b -> /n/m/", "created /n/m/c/f"]);

    fs::rename(at("n"), at("a/n")).unwrap();
    fs::rename(at("a"), at("z")).unwrap();
    fs::write(at("z/n/m/c/g"), b"").unwrap();
    let expected = ["renamed /n -> /a/n/", "renamed /a -> /z/", "created /z/n/m/c/g"];
    assert_eq!(watch.news(), expected);
}

#[test]
fn directory_moved_in_is_told_whole_and_one_moved_out_is_left_alone() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let outside = folder(&agent, "outside");
    fs::create_dir_all(format!("{}/d/e", outside)).unwrap();
    fs::write(format!("{}/d/e/f", outside), b"").unwrap();
    let mut watch = Watch::start(&agent, &root, true);
    let before = kernel_watches(&agent);

    fs::rename(format!("{}/d", outside), format!("{}/d", root)).unwrap();
    assert_eq!(watch.news(), ["created /d/", "created /d/e/", "created /d/e/f"]);
    assert_eq!(kernel_watches(&agent), before + 2);
    fs::rename(format!("{}/d", root), format!("{}/d", outside)).unwrap();
    fs::write(format!("{}/d/e/g", outside), b"").unwrap();
    assert_eq!(watch.news(), ["removed /d/"]);
    assert_eq!(kernel_watches(&agent), before);
}

#[test]
fn directory_over_another_and_two_exchanged_are_followed_on() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let at = |name: &str| format!("{}/{}", root, name);
    fs::create_dir(at("a")).unwrap();
    fs::create_dir(at("b")).unwrap();
    let mut watch = Watch::start(&agent, &root, true);

    fs::rename(at("a"), at("b")).unwrap();
    fs::write(at("b/f"), b"").unwrap();
    assert_eq!(watch.news(), ["renamed /a -> /b/", "created /b/f"]);

    fs::rename(at("b"), at("c")).unwrap();
    fs::rename(at("c"), at("b")).unwrap();
    assert_eq!(watch.news(), ["renamed /b -> /c/", "renamed /c -> /b/"]);

    fs::create_dir(at("c")).unwrap();
    watch.news();
    let exchange = "import ctypes,sys; r=ctypes.CDLL(None).renameat2(-100,sys.argv[1].encode(),\
                    -100,sys.argv[2].encode(),2); sys.exit(r)";
    let done = Command::new("python3").args(["-c", exchange, &at("b"), &at("c")]).status();
    if !done.unwrap().success() {
        // The file system cannot exchange names.
        return;
    }
    assert_eq!(watch.news().last().unwrap(), "overflow ");
    fs::write(at("c/g"), b"").unwrap();
    fs::write(at("b/h"), b"").unwrap();
    assert_eq!(watch.news(), ["created /c/g", "created /b/h"]);
}

#[test]
fn links_to_directories_are_not_followed() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let outside = folder(&agent, "outside");
    symlink(&outside, format!("{}/old", root)).unwrap();
    let mut watch = Watch::start(&agent, &root, true);
    symlink(&outside, format!("{}/new", root)).unwrap();

    fs::write(format!("{}/f", outside), b"").unwrap();

    assert_eq!(watch.news(), ["created /new"]);
}

/// All that a client knows who has read every change.
#[derive(Default)]
struct Replay {
    names: BTreeSet<String>,
    has_overflow: bool,
}

impl Replay {
    fn apply(&mut self, line: &str) {
        let (kind, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_end_matches('/');
        match kind {
            "created" => drop(self.names.insert(rest.to_owned())),
            "removed" => drop(self.take(rest)),
            "renamed" => {
                let (from, to) = rest.split_once(" -> ").unwrap();
                let moved = self.take(from);
                self.take(to);
                self.names.extend(moved.iter().map(|tail| format!("{}{}", to, tail)));
            }
            "overflow" => self.has_overflow = true,
            _ => assert!(self.names.contains(rest), "{}", line),
        }
    }

    /// Removes a name and all beneath it: what stands behind it, of each.
    fn take(&mut self, path: &str) -> Vec<String> {
        let is_it = |name: &&String| {
            let tail = name.strip_prefix(path);
            tail.map_or(false, |tail| tail.is_empty() || tail.starts_with('/'))
        };
        let gone: BTreeSet<String> = self.names.iter().filter(is_it).cloned().collect();
        self.names.retain(|name| !gone.contains(name));
        gone.iter().map(|name| name[path.len()..].to_owned()).collect()
    }
}

fn listing(root: &str) -> BTreeSet<String> {
    let found = Command::new("find").args([root, "-mindepth", "1"]).output().unwrap();
    let text = String::from_utf8(found.stdout).unwrap();
    text.lines().map(|line| line.replacen(root, "", 1)).collect()
}

const STORM: &str = r#"
import os, random, sys
random.seed(sys.argv[1]); os.chdir(sys.argv[2])
places = ["."]
for number in range(int(sys.argv[3])):
    base = random.choice(places)
    path = f"{base}/{random.choice('abcd')}"
    try:
        roll = random.random()
        if roll < 0.25:
            os.mkdir(path); places.append(path)
        elif roll < 0.5:
            open(path, "w").write("x")
        elif roll < 0.75:
            os.rename(path, f"{random.choice(places)}/{random.choice('abcd')}")
        elif roll < 0.85:
            os.unlink(path)
        else:
            os.rmdir(path)
    except OSError:
        pass
    if len(places) > 40:
        places = ["."] + random.sample(places, 20)
"#;

#[test]
fn storm_is_told_so_that_replaying_it_gives_what_is_there_or_says_that_it_does_not() {
    for seed in 0..6 {
        let agent = Agent::start();
        let root = folder(&agent, "w");
        let mut watch = Watch::start(&agent, &root, true);
        let count = if seed == 0 { "60000" } else { "3000" };
        let seed = seed.to_string();
        let done = Command::new("python3").args(["-c", STORM, &seed, &root, count]).status();
        assert!(done.unwrap().success());

        let mut replay = Replay::default();
        let mut lines = watch.news();
        if lines.iter().any(|line| line.starts_with("overflow")) {
            // Whoever lists again after an overflow is right from there on.
            replay.has_overflow = true;
            replay.names = listing(&root);
            fs::create_dir(format!("{}/after", root)).unwrap();
            lines = watch.news();
        }
        lines.iter().for_each(|line| replay.apply(line));

        assert_eq!(replay.names, listing(&root), "seed {}", seed);
        assert!(!replay.has_overflow || count == "60000");
    }
}

#[test]
fn overrun_queue_is_told_and_what_came_meanwhile_is_followed() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let other = folder(&agent, "other");
    let mut watch = Watch::start(&agent, &root, true);
    // While the agent is stopped its queue overruns, and a directory is made that nobody tells of.
    let signal = |name: &str| {
        let pid = agent.pid().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    signal("-STOP");
    for number in 0..9000 {
        fs::write(format!("{}/{}", root, number), b"x").unwrap();
    }
    fs::create_dir(format!("{}/dir", root)).unwrap();
    signal("-CONT");

    let news = watch.news();
    assert_eq!(news.last().unwrap(), "overflow ");
    fs::write(format!("{}/dir/f", root), b"").unwrap();
    assert_eq!(watch.news(), ["created /dir/f"]);
    drop(other);
}

#[test]
fn directories_beyond_the_limit_are_told_not_to_be_followed() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    // As deep as a path can name, and deeper.
    let script = "import os\nfor _ in range(30):\n os.mkdir('d'*200); os.chdir('d'*200)";
    let made = Command::new("python3").args(["-c", script]).current_dir(&root).status().unwrap();
    assert!(made.success());

    let mut watch = Watch::start(&agent, &root, true);

    let news = watch.news();
    assert_eq!(news.len(), 1);
    assert!(news[0].starts_with("overflow /dd"), "{:?}", news);
    let remove = Command::new("rm").args(["-r", &root]).status().unwrap();
    assert!(remove.success() && !exists(&root));
}
