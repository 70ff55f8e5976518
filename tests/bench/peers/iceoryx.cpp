// iceoryx 2.0: untyped publisher and subscriber each way, written in the loaned chunk, read where it lies. Lossless:
// the publisher waits for the subscriber. It needs its daemon: RouDi is started once for the whole run, with pools for
// the sizes of this benchmark.
#include <signal.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <thread>

#include "iceoryx_hoofs/log/logmanager.hpp"
#include "iceoryx_posh/iceoryx_posh_types.hpp"
#include "iceoryx_posh/mepoo/chunk_header.hpp"
#include "iceoryx_posh/popo/untyped_publisher.hpp"
#include "iceoryx_posh/popo/untyped_subscriber.hpp"
#include "iceoryx_posh/popo/wait_set.hpp"
#include "iceoryx_posh/runtime/posh_runtime.hpp"
#include "iceoryx_versions.hpp"
#include "peers/link_bench.h"

namespace cdmf::bench {
namespace {

/// Chunks of each size: more than the queues can hold at once.
constexpr struct {
  std::size_t size, count;
} kPools[] = {{128, 2048}, {1152, 1024}, {4224, 1024}, {16512, 512}, {65664, 160}, {262272, 64}, {1048704, 32}};
constexpr const char* kRouDi = "/usr/bin/iox-roudi";

std::uint64_t queue_length(const Case& what) {
  return std::clamp<std::size_t>((std::size_t{4} << 20) / what.size_bytes, 4, 256);  // 256: its most.
}

/// The daemon, from the first measurement until the benchmark ends.
class RouDi {
 public:
  RouDi() {
    const std::string base = "/tmp/cdmf-bench-" + std::to_string(getpid()) + "-roudi";
    config_ = base + ".toml";
    log_ = base + ".log";
    std::ofstream config(config_);
    config << "[general]\nversion = 1\n\n[[segment]]\n";
    for (const auto& pool : kPools) {
      config << "\n[[segment.mempool]]\nsize = " << pool.size << "\ncount = " << pool.count << "\n";
    }
    config.close();
    std::FILE* const log = std::fopen(log_.c_str(), "w");
    if (log == nullptr) throw std::runtime_error("cannot write " + log_);
    daemon_ = std::make_unique<ipc::cli::ChildProcess>(ipc::cli::ChildProcess::run(
        kRouDi, {"-c", config_}, {.input = -1, .output = fileno(log), .error = fileno(log)}));
    std::fclose(log);
    for (int i = 0; i < 200; ++i) {
      if (daemon_->wait_for(std::chrono::milliseconds(50))) break;
      if (said().find("RouDi is ready") != std::string::npos) return;
    }
    const std::string why = said();
    end();
    throw std::runtime_error("RouDi does not start (does another one run?): " + why.substr(0, 200));
  }
  ~RouDi() { end(); }
  RouDi(const RouDi&) = delete;
  RouDi& operator=(const RouDi&) = delete;

 private:
  std::string said() const {
    std::ostringstream text;
    text << std::ifstream(log_).rdbuf();
    return text.str();
  }
  void end() {
    if (!daemon_->wait_for(std::chrono::milliseconds(0))) ::kill(daemon_->pid(), SIGTERM);
    (void)daemon_->wait_for(std::chrono::seconds(5));
    std::remove(config_.c_str());
    std::remove(log_.c_str());
  }
  std::string config_, log_;
  std::unique_ptr<ipc::cli::ChildProcess> daemon_;
};

iox::capro::ServiceDescription service(const Place& place, const char* way) {
  return {"cdmf_bench", iox::capro::IdString_t(iox::cxx::TruncateToCapacity, place.name.c_str()),
          iox::capro::IdString_t(iox::cxx::TruncateToCapacity, way)};
}

class IceoryxLink {
 public:
  explicit IceoryxLink(const Place& place) : place_(place) {
    iox::log::LogManager::GetLogManager().SetDefaultLogLevel(iox::log::LogLevel::kError,
                                                             iox::log::LogLevelOutput::kHideLogLevel);
    const std::string name = place.name + (place.server ? "-s" : "-c" + std::to_string(place.client));
    iox::runtime::PoshRuntime::initRuntime(iox::RuntimeName_t(iox::cxx::TruncateToCapacity, name.c_str()));
    waits_ = std::make_unique<iox::popo::WaitSet<>>();
    iox::popo::PublisherOptions publisher;
    publisher.subscriberTooSlowPolicy = iox::popo::ConsumerTooSlowPolicy::WAIT_FOR_CONSUMER;
    iox::popo::SubscriberOptions subscriber;
    subscriber.queueFullPolicy = iox::popo::QueueFullPolicy::BLOCK_PRODUCER;
    subscriber.queueCapacity = queue_length(place.what);
    const bool answers = place.what.clients == 1;
    if (answers || !place.server) {
      out_ = std::make_unique<iox::popo::UntypedPublisher>(service(place, place.server ? "back" : "there"), publisher);
    }
    if (answers || place.server) {
      in_ = std::make_unique<iox::popo::UntypedSubscriber>(service(place, place.server ? "there" : "back"), subscriber);
      if (!place.polls() && waits_->attachState(*in_, iox::popo::SubscriberState::HAS_DATA).has_error()) {
        throw std::runtime_error("WaitSet::attachState failed");
      }
    }
    if (place.server) return;
    // RouDi connects them when it next looks.
    for (int i = 0; i < 1000; ++i) {
      if (out_->hasSubscribers() && (!in_ || in_->getSubscriptionState() == iox::SubscribeState::SUBSCRIBED)) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    throw std::runtime_error("RouDi does not connect publisher and subscriber");
  }
  ~IceoryxLink() {
    if (in_ != nullptr && !place_.polls()) waits_->detachState(*in_, iox::popo::SubscriberState::HAS_DATA);
  }
  IceoryxLink(const IceoryxLink&) = delete;
  IceoryxLink& operator=(const IceoryxLink&) = delete;

  void send(std::span<const std::byte> message, bool) {
    void* chunk = nullptr;
    try_until(place_, [&] {
      out_->loan(static_cast<std::uint32_t>(message.size())).and_then([&](void* memory) { chunk = memory; });
      return chunk != nullptr;
    });
    std::memcpy(chunk, message.data(), message.size());
    out_->publish(chunk);
  }
  template <class Handler>
  std::size_t receive(Handler&& handler, std::size_t limit) {
    const auto look = [&] {
      std::size_t count = 0;
      for (; count < limit; ++count) {
        const void* chunk = nullptr;
        in_->take().and_then([&](const void* taken) { chunk = taken; });
        if (chunk == nullptr) break;
        const auto size = iox::mepoo::ChunkHeader::fromUserPayload(chunk)->userPayloadSize();
        handler(std::span(static_cast<const std::byte*>(chunk), size));
        in_->release(chunk);
      }
      return count;
    };
    if (place_.polls()) return poll_some(look);
    if (const std::size_t count = look(); count != 0) return count;
    waits_->timedWait(iox::units::Duration::fromSeconds(1));
    return look();
  }

 private:
  const Place place_;
  std::unique_ptr<iox::popo::UntypedPublisher> out_;
  std::unique_ptr<iox::popo::UntypedSubscriber> in_;
  std::unique_ptr<iox::popo::WaitSet<>> waits_;  // It asks for the runtime when it is made.
};

}  // namespace

std::vector<Subject> iceoryx_subjects() {
  Subject made;
  made.name = "iceoryx";
  made.label = "iceoryx";
  made.library = "iceoryx " ICEORYX_LATEST_RELEASE_VERSION;
  if (access(kRouDi, X_OK) != 0) made.skipped = std::string(kRouDi) + " is missing (apt-get install iceoryx)";
  made.settings = [](const Case& what) {
    return "RouDi beside, queue of " + std::to_string(queue_length(what)) + ", lossless, " +
           (what.wait == Wait::poll ? "take() without pause" : "WaitSet");
  };
  made.applies = [](const Case&) { return true; };
  const auto roudi = std::make_shared<std::unique_ptr<RouDi>>();
  made.measure = [roudi](const Case& what, const Setting& setting) {
    if (*roudi == nullptr) *roudi = std::make_unique<RouDi>();
    return measure_link<IceoryxLink>(what, setting);
  };
  return {made};
}

}  // namespace cdmf::bench
