//! What a watch sees and waits for.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;

use super::*;

async fn notices(watch: &mut FileWatch) {
    timeout(Duration::from_secs(20), watch.changed())
        .await
        .expect("a change is noticed");
    let files = watch.files.clone();
    watch.follow(files);
}

#[tokio::test]
async fn writes_renames_and_swapped_links_are_all_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    fs::write(&file, "one").unwrap();
    let mut watch = FileWatch::new(vec![file.clone()]);

    fs::write(&file, "two").unwrap();
    notices(&mut watch).await;

    fs::write(dir.path().join("new"), "three").unwrap();
    fs::rename(dir.path().join("new"), &file).unwrap();
    notices(&mut watch).await;

    fs::remove_file(&file).unwrap();
    notices(&mut watch).await;
}

#[tokio::test]
async fn a_file_that_changes_before_all_files_are_known_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, named) = (dir.path().join("policy.yaml"), dir.path().join("ca.crt"));
    fs::write(&policy, "one").unwrap();
    fs::write(&named, "one").unwrap();
    let mut watch = FileWatch::new(vec![policy.clone()]);
    fs::write(&policy, "another").unwrap();
    watch.follow_also(vec![policy.clone(), named.clone()]);
    notices(&mut watch).await;
    assert_eq!(watch.files, [policy, named]);
}

#[tokio::test]
async fn a_directory_that_is_swapped_as_kubernetes_does_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (directory, text) in [("..1", "one"), ("..2", "two"), ("..3", "three")] {
        fs::create_dir(at(directory)).unwrap();
        fs::write(at(directory).join("policy.yaml"), text).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/policy.yaml", at("policy.yaml")).unwrap();
    let mut watch = FileWatch::new(vec![at("policy.yaml")]);

    for directory in ["..2", "..3"] {
        symlink(directory, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        notices(&mut watch).await;
    }
}

#[tokio::test]
async fn a_log_that_grows_wakes_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    fs::write(&file, "one").unwrap();
    let mut log = fs::File::create(dir.path().join("access.log")).unwrap();
    let mut watch = FileWatch::new(vec![file.clone()]);
    for _ in 0..10 {
        log.write_all(b"line\n").unwrap();
    }
    assert!(
        !watch.events.take(),
        "the events of writes are there at once"
    );
    fs::write(&file, "two").unwrap();
    timeout(Duration::from_secs(20), watch.events.come())
        .await
        .expect("this is news");
}

#[tokio::test(start_paused = true)]
async fn other_files_of_the_directory_are_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    fs::write(&file, "one").unwrap();
    let mut watch = FileWatch::new(vec![file]);
    fs::write(dir.path().join("access.log"), "line").unwrap();
    assert!(
        timeout(Duration::from_mins(1), watch.changed())
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_file_that_somebody_still_writes_to_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    fs::write(&file, "one").unwrap();
    let mut watch = FileWatch::new(vec![file.clone()]);
    for replace in [false, true] {
        if replace {
            fs::remove_file(&file).unwrap();
        }
        let mut writer = fs::File::create(&file).unwrap();
        writer.write_all(b"half").unwrap();
        let mut now = false;
        if replace {
            // It is seen that the file is another one, and from then on who writes to it.
            now = timeout(QUIET / 2, watch.changed()).await.is_ok();
            writer.write_all(b", half").unwrap();
        }
        now |= timeout(Duration::from_hours(1), watch.changed())
            .await
            .is_ok();
        assert!(!now, "a writer that waits for an hour may go on yet");
        writer.write_all(b" and half").unwrap();
        drop(writer);
        notices(&mut watch).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_leaves_no_other_trace_is_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    fs::write(&file, "one").unwrap();
    let mut watch = FileWatch::new(vec![file.clone()]);
    // Within one tick of the file system's clock the two look the same.
    fs::write(&file, "two").unwrap();
    let same = stamps(&watch.files);
    watch.seen.clone_from(&same);
    watch.last = same;
    assert!(!watch.is_as_seen());
    notices(&mut watch).await;
}
