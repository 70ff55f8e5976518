#pragma once
// segment/fork_guard.h: descriptors that children of fork() must not keep.
// A lock of an open file lives as long as any copy of its descriptor: a forked child that still has one would make its
// dead parent look alive. O_CLOEXEC does this for exec(); this does it for fork() alone.

namespace cdmf::ipc::shm {

/// From now on each child's copy of fd is turned into one of /dev/null: the number stays taken, so that whoever closes
/// it in the child closes nothing else. False: no memory. [any]
[[nodiscard]] bool keep_from_children(int fd) noexcept;
/// Before fd is closed. [any]
void forget_descriptor(int fd) noexcept;

}  // namespace cdmf::ipc::shm
