//! Loading, loading again, and what stands in the way.

use aya::maps::{HashMap, Map};
use ebpf::{AttachmentState, PinOwner, PortBinding, Role, RoleHolder, SteerError, Steering};

use super::{Instance, connect, serve};

#[test]
#[ignore = "kernel.sh runs it as root"]
fn loading_again_exchanges_the_program_and_keeps_the_rest() {
    let instance = Instance::loaded("again");
    let (mut steering, _listeners, _handle) = serve(&instance, 1);
    steering.apply([PortBinding::Port(7003)].into()).unwrap();
    let mut connected = 0;
    for _ in 0..20 {
        ebpf::load(&instance.0, None).unwrap();
        for _ in 0..20 {
            connect("127.0.0.1:7003").unwrap();
            connected += 1;
        }
    }
    let counters = Steering::counters(&instance.0).unwrap();
    assert_eq!(counters[0].1.steered, connected);
}

#[test]
#[ignore = "kernel.sh runs it as root"]
fn another_instance_at_the_hook_is_told_of() {
    let first = Instance::loaded("first");
    let second = Instance::new("second");
    assert_eq!(ebpf::load(&second.0, None).unwrap().len(), 1);
    drop(first);
    assert_eq!(ebpf::load(&second.0, None).unwrap().len(), 0);
}

#[test]
#[ignore = "kernel.sh runs it as root"]
fn a_pin_of_other_sizes_is_refused_and_left_alone() {
    let instance = Instance::new("other");
    std::fs::create_dir_all(instance.0.path()).unwrap();
    let foreign = HashMap::<_, u64, u64>::create(16, 0).unwrap();
    let pin = instance.0.path().join("PORTS");
    foreign.pin(&pin).unwrap();
    let error = ebpf::load(&instance.0, None).unwrap_err();
    assert!(matches!(error, SteerError::Incompatible { .. }), "{error}");
    let error = Steering::open(&instance.0, Role::Primary).unwrap_err();
    assert!(matches!(error, SteerError::Incompatible { .. }), "{error}");
    assert!(pin.exists());
    let map = Map::HashMap(aya::maps::MapData::from_pin(&pin).unwrap());
    HashMap::<_, u64, u64>::try_from(map).unwrap();
}

#[test]
#[ignore = "kernel.sh runs it as root"]
fn a_folder_that_somebody_else_made_first_is_not_loaded_into() {
    let instance = Instance::new("theirs");
    let folder = instance.0.path();
    std::fs::create_dir_all(folder).unwrap();
    for path in [folder, folder.parent().unwrap()] {
        let give = |user| std::os::unix::fs::chown(path, Some(user), None).unwrap();
        give(1234);
        let refused = ebpf::load(&instance.0, None).unwrap_err();
        assert!(
            matches!(&refused, SteerError::Unsafe { user: 1234, .. }),
            "{refused}"
        );
        assert!(Steering::open(&instance.0, Role::Primary).is_err());
        give(0);
    }
    let mode = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(folder, mode).unwrap();
    };
    mode(0o777);
    let refused = ebpf::load(&instance.0, None).unwrap_err();
    assert!(matches!(refused, SteerError::Unsafe { .. }), "{refused}");
    mode(0o755);
    ebpf::load(&instance.0, None).unwrap();
}

#[test]
#[ignore = "kernel.sh runs it as root"]
fn a_link_that_is_gone_is_told_and_made_again() {
    let instance = Instance::new("link");
    assert_eq!(
        AttachmentState::of(&instance.0).unwrap(),
        AttachmentState::Nowhere
    );
    ebpf::load(&instance.0, None).unwrap();
    assert_eq!(
        AttachmentState::of(&instance.0).unwrap(),
        AttachmentState::Here
    );
    std::fs::remove_file(instance.0.path().join("link")).unwrap();
    assert_eq!(
        AttachmentState::of(&instance.0).unwrap(),
        AttachmentState::Nowhere
    );
    ebpf::load(&instance.0, None).unwrap();
    assert_eq!(
        AttachmentState::of(&instance.0).unwrap(),
        AttachmentState::Here
    );
    let (mut steering, _listeners, _handle) = serve(&instance, 1);
    steering.apply([PortBinding::Port(5432)].into()).unwrap();
    connect("127.0.0.1:5432").unwrap();
}

#[test]
#[ignore = "kernel.sh runs it as root"]
fn what_an_earlier_version_loaded_serves_and_is_completed_for_its_own_user() {
    let instance = Instance::new("earlier");
    let (user, group) = (1234, 5678);
    ebpf::load(&instance.0, Some(PinOwner { user, group })).unwrap();
    let pin = instance.0.path().join("PROCESSES");
    std::fs::remove_file(&pin).unwrap();
    let (mut steering, listeners, _handle) = serve(&instance, 1);
    steering.apply([PortBinding::Port(7012)].into()).unwrap();
    connect("127.0.0.1:7012").unwrap();
    listeners[0].accept().unwrap();
    let holder = RoleHolder::of(&instance.0, Role::Primary).unwrap();
    assert_eq!(holder, RoleHolder::Unknown);

    ebpf::load(&instance.0, None).unwrap();
    let made = std::fs::metadata(pin).unwrap();
    let owner = std::os::unix::fs::MetadataExt::uid(&made);
    assert_eq!(owner, user);
}
