#pragma once
// segment/named_object.h: a POSIX shared-memory object "/name" (on Linux: a file in /dev/shm), made and opened with
// care. What the care is about:
//
//   half-made    An object gets its name when it is complete: it is made without one, and then linked. Nobody sees
//   less. squatting    The folder is everybody's. An object of a user who is not admitted, a symbolic link, or anything
//   else
//                at the name is refused, and left alone.
//   full         All bytes are allocated before the first is touched: a full /dev/shm is RESOURCE_EXHAUSTED, not
//   SIGBUS. leftovers    Whoever lives with an object holds a lock on it (F_OFD_SETLK), which the kernel drops when the
//   process
//                dies, at once and however it dies. Only who gets that lock whole may take the name away; no clock, no
//                pid is asked. A stopped process holds its lock.
//   removal      By the last who lives with it, or whoever closes one that nobody lives with any more.
//
// Two ends of one process may open the same object: each has a lock of its own. A child of fork() has no lock.
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>

#include "ipc/driver.h"
#include "segment/access.h"
#include "segment/mapping.h"
#include "segment/unique_fd.h"

namespace cdmf::ipc::shm {

/// What every object starts with, or has at mark_offset: tells ours from what another program left at the name.
inline constexpr std::uint32_t kObjectMark = 0xCDAF5000;

/// The name of an endpoint's object, as shm_open() takes it: a '/', then the endpoint without its own, with every byte
/// outside [A-Za-z0-9._-] as %XX, so that no two endpoints share an object; one without '/' starts with %00.
/// INVALID_CONFIG: it is empty, or too long to be a file name with `reserve` more bytes (of a suffix).
cdmf_status object_name(const char* endpoint, std::size_t reserve, std::string& name, ErrorText& error);

/// Whether somebody alive holds the object present; whether it holds lock `index`. Of an object opened by other means,
/// also for reading only. [any]
bool is_held_present(int fd) noexcept;
bool is_locked(int fd, std::uint32_t index) noexcept;

class NamedObject {
 public:
  struct Terms {
    Access access;                  // Mode and group of a new object; whose objects are opened.
    std::uint64_t mark_offset = 0;  // Of kObjectMark.
  };
  /// Whether this process's life keeps the object alive: then it holds the presence lock, shared with others like it.
  enum class Presence : bool { no, yes };

  NamedObject() = default;
  NamedObject(NamedObject&& other) noexcept { swap(other); }
  NamedObject& operator=(NamedObject&& other) noexcept {
    swap(other);
    return *this;
  }
  ~NamedObject() { close(); }

  /// Makes an object of `size` bytes and fills it (zeroed, mapped; the mark is `fill`'s part); then gives it its name.
  /// This process holds it present. A leftover at the name is replaced.
  /// ENDPOINT_IN_USE      a living process holds it, or it is nothing of ours
  /// PERMISSION_DENIED    another user's object is there
  /// RESOURCE_EXHAUSTED   /dev/shm is full, no descriptor, no memory
  /// Each text says what stands in the way and what to do.
  static cdmf_status create(const std::string& name, std::uint64_t size, const Terms& terms,
                            const std::function<void(std::byte* memory)>& fill, NamedObject& made, ErrorText& error);
  /// The same, but in the place of our own `before`, which loses the name to the new object in one step: a name that
  /// is looked up meanwhile leads to the one or the other. When the name does not lead to `before` any more: create().
  static cdmf_status replace(NamedObject& before, std::uint64_t size,
                             const std::function<void(std::byte* memory)>& fill, NamedObject& made, ErrorText& error);
  /// Opens what has the name, if somebody alive holds it present; maps all of it.
  /// ENDPOINT_NOT_FOUND   nothing is there, or a leftover of processes that are dead
  /// PERMISSION_DENIED    its owner is not admitted, or its mode allows more than terms.access.mode
  /// PROTOCOL_ERROR       it is nothing of ours, smaller than size_min, or not allocated
  static cdmf_status open(const std::string& name, std::uint64_t size_min, const Terms& terms, Presence presence,
                          NamedObject& found, ErrorText& error);

  /// Gives up the locks, and takes the name away if nobody alive holds the object present any more. The mapping goes,
  /// unless taken. Idempotent. In a forked child it only closes.
  void close() noexcept;
  /// The same, but the descriptor and the mapping stay, for close(): whoever is told by them finds all given up.
  void let_go() noexcept;

  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }
  std::byte* memory() const noexcept { return mapping_.memory(); }
  std::uint64_t size() const noexcept { return size_; }
  const std::string& name() const noexcept { return name_; }
  int fd() const noexcept { return fd_.get(); }
  uid_t owner() const noexcept { return owner_; }
  const Access& access() const noexcept { return terms_.access; }
  /// The mapping, to outlive this object: the locks do not depend on it.
  Mapping take_mapping() noexcept { return std::move(mapping_); }
  /// Whether the name still leads here. False after replace(), or when somebody removed the file by hand.
  bool has_its_name() const noexcept;

  // ---- Locks of participants: one byte each, exclusive, dropped by the kernel when the holder dies. [any]

  /// Takes lock `index`. True: nobody alive held it, and this NamedObject holds it now (or held it before). What its
  /// holder did before it died is visible to the taker.
  bool try_lock(std::uint32_t index) noexcept;
  void unlock(std::uint32_t index) noexcept;
  /// Whether another NamedObject, of this process or another one, holds lock `index`.
  bool is_locked_by_another(std::uint32_t index) const noexcept;
  /// Whether another NamedObject holds the object present.
  bool is_held_by_another() const noexcept;

 private:
  void swap(NamedObject& other) noexcept;
  static cdmf_status make_unnamed(const std::string& name, std::uint64_t size, const Terms& terms,
                                  const std::function<void(std::byte* memory)>& fill, NamedObject& made,
                                  ErrorText& error);
  static cdmf_status remove_leftover(const std::string& name, const Terms& terms, ErrorText& error);
  bool keep_private() noexcept;

  std::string name_;
  Terms terms_;
  UniqueFd fd_;  // Of an open file of our own: the locks are its.
  Mapping mapping_;
  std::uint64_t size_ = 0;
  uid_t owner_ = static_cast<uid_t>(-1);
  pid_t process_ = -1;  // That has the locks; a forked child is another one.
  bool present_ = false;
};

}  // namespace cdmf::ipc::shm
