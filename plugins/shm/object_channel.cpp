#include "object_channel.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "wait/bell.h"

namespace cdmf::ipc::shm {
namespace {

constexpr std::uint64_t kSemaphoreBytes = 64;  // sem_open() maps a sem_t and asks for no more; the mark is behind it.
static_assert(sizeof(sem_t) + sizeof kObjectMark <= kSemaphoreBytes);

/// Where glibc's sem_open() has the semaphore `name` + suffix.
std::string semaphore_name(const std::string& name, const char* suffix) { return "/sem." + name.substr(1) + suffix; }

/// As sem_open() would have left it.
void make_semaphore(std::byte* memory) {
  sem_init(reinterpret_cast<sem_t*>(memory), 1, 0);
  std::memcpy(memory + sizeof(sem_t), &kObjectMark, sizeof kObjectMark);
}

cdmf_status create_or_replace(const std::string& name, std::uint64_t size, const NamedObject::Terms& terms,
                              const std::function<void(std::byte*)>& fill, NamedObject* before, NamedObject& made,
                              ErrorText& error) {
  if (before != nullptr && *before) return NamedObject::replace(*before, size, fill, made, error);
  return NamedObject::create(name, size, terms, fill, made, error);
}

}  // namespace

cdmf_status SharedObject::create(const std::string& name, const Access& access, const SegmentPlan& plan,
                                 const EndFacts& server, SharedObject* before, SharedObject& made, ErrorText& error) {
  SharedObject object;
  if ((plan.features & kFeatureSemaphores) != 0) {
    const NamedObject::Terms terms{access, sizeof(sem_t)};
    for (const bool tx : {true, false}) {
      NamedObject* const old = before == nullptr ? nullptr : tx ? &before->tx_semaphore : &before->rx_semaphore;
      const cdmf_status status =
          create_or_replace(semaphore_name(name, tx ? "_tx" : "_rx"), kSemaphoreBytes, terms, make_semaphore, old,
                            tx ? object.tx_semaphore : object.rx_semaphore, error);
      if (status != CDMF_OK) return status;
    }
  }
  const auto fill = [&](std::byte* memory) { Segment::lay_out(memory, plan, server, {}); };
  const cdmf_status status = create_or_replace(name, plan.total_size(), {access}, fill,
                                               before == nullptr ? nullptr : &before->segment, object.segment, error);
  if (status != CDMF_OK) return status;
  object.control = reinterpret_cast<SegmentControl*>(object.segment.memory());
  made = std::move(object);
  return CDMF_OK;
}

cdmf_status SharedObject::open(const std::string& name, const Access& access, SharedObject& found, ErrorText& error) {
  SharedObject object;
  const cdmf_status status =
      NamedObject::open(name, kRingsOffset, {access}, NamedObject::Presence::no, object.segment, error);
  if (status != CDMF_OK) return status;
  object.control = reinterpret_cast<SegmentControl*>(object.segment.memory());
  found = std::move(object);
  return CDMF_OK;
}

cdmf_status SharedObject::open_semaphores(ErrorText& error) {
  const NamedObject::Terms terms{segment.access(), sizeof(sem_t)};
  for (const bool tx : {true, false}) {
    const cdmf_status status =
        NamedObject::open(semaphore_name(segment.name(), tx ? "_tx" : "_rx"), kSemaphoreBytes, terms,
                          NamedObject::Presence::no, tx ? tx_semaphore : rx_semaphore, error);
    if (status != CDMF_OK) return status;
  }
  return CDMF_OK;
}

ObjectChannel::ObjectChannel(std::shared_ptr<SharedObject> object, bool is_server, std::shared_ptr<UniqueFd> own_thread)
    : is_server_(is_server),
      own_thread_(std::move(own_thread)),
      own_semaphore_((is_server ? object->tx_semaphore : object->rx_semaphore).take_mapping()),
      peer_semaphore_((is_server ? object->rx_semaphore : object->tx_semaphore).take_mapping()),
      object_(std::move(object)) {}

/// Everything behind the count and the number of waiters is constant. With anything else there, the C library would ask
/// the kernel for what it refuses, and end this process for that.
sem_t* ObjectChannel::sound_semaphore(const Mapping& mapping) noexcept {
  static const sem_t kFresh = [] {
    sem_t fresh;
    std::memset(static_cast<void*>(&fresh), 0, sizeof fresh);
    sem_init(&fresh, 1, 0);
    return fresh;
  }();
  constexpr std::size_t kChanging = 8;
  const std::byte* const memory = mapping.memory();
  const bool is_sound =
      memory != nullptr && std::memcmp(memory + kChanging, reinterpret_cast<const std::byte*>(&kFresh) + kChanging,
                                       sizeof kFresh - kChanging) == 0;
  return is_sound ? reinterpret_cast<sem_t*>(mapping.memory()) : nullptr;
}

/// The two sides ring differently, so that none hears itself: see object_rendezvous.h.
void ObjectChannel::ring_object() noexcept {
  if (is_server_) {
    const char zero = 0;  // In the page of the control block, where nothing is.
    [[maybe_unused]] const ssize_t written = pwrite(object_->segment.fd(), &zero, 1, kRingsOffset - 1);
  } else {
    futimens(object_->segment.fd(), nullptr);
  }
}

void ObjectChannel::hang_up(cdmf_status reason) noexcept {
  const std::lock_guard lock(mutex_);
  if (!object_) return;
  SegmentEnd& own = is_server_ ? object_->control->server : object_->control->client;
  // The last who has the object gives up all of it before the peer is told: a successor that the peer's word sends here
  // finds nothing in use. Otherwise our rendezvous still has it, and puts the next one in its place.
  const bool is_last = object_.use_count() == 1;
  if (is_last) {
    object_->tx_semaphore.close();
    object_->rx_semaphore.close();
  }
  own.goodbye.store(reason, std::memory_order_release);
  if (is_last) object_->segment.let_go();
  ring_object();
  object_.reset();
  signal_fd(own_thread_->get());
}

void ObjectChannel::ring(std::uint32_t armed) noexcept {
  if (armed == kArmedSemaphore) {
    if (sem_t* const semaphore = sound_semaphore(peer_semaphore_)) sem_post(semaphore);
    return;
  }
  const std::lock_guard lock(mutex_);
  if (object_) ring_object();
}

}  // namespace cdmf::ipc::shm
