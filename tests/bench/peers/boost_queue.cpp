// Boost.Interprocess message_queue: one queue each way; try_ calls when polling.
#include <boost/date_time/posix_time/posix_time_types.hpp>
#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/version.hpp>

#include "peers/link_bench.h"

namespace cdmf::bench {
namespace {

namespace bip = boost::interprocess;

std::size_t slots(const Case& what) {
  // Some megabytes, as the rings beside it have; every slot has the size of the largest message.
  return std::clamp<std::size_t>((std::size_t{4} << 20) / what.size_bytes, 8, 8192);
}

class BoostLink {
 public:
  explicit BoostLink(const Place& place) : place_(place), buffer_(place.what.size_bytes) {
    const std::string there = place.name + "-there", back = place.name + "-back";
    if (place.server) {
      owned_ = {there, back};
      in_ = std::make_unique<bip::message_queue>(bip::create_only, there.c_str(), slots(place.what), buffer_.size());
      out_ = std::make_unique<bip::message_queue>(bip::create_only, back.c_str(), slots(place.what), buffer_.size());
    } else {
      out_ = std::make_unique<bip::message_queue>(bip::open_only, there.c_str());
      in_ = std::make_unique<bip::message_queue>(bip::open_only, back.c_str());
    }
  }
  ~BoostLink() {
    for (const auto& name : owned_) bip::message_queue::remove(name.c_str());
  }
  void send(std::span<const std::byte> message, bool) {
    if (!place_.polls()) return out_->send(message.data(), message.size(), 0);
    try_until(place_, [&] { return out_->try_send(message.data(), message.size(), 0); });
  }
  template <class Handler>
  std::size_t receive(Handler&& handler, std::size_t) {
    bip::message_queue::size_type size = 0;
    unsigned priority = 0;
    if (place_.polls()) {
      if (poll_some([&] { return in_->try_receive(buffer_.data(), buffer_.size(), size, priority) ? 1 : 0; }) == 0) {
        return 0;
      }
    } else {
      const auto until = boost::posix_time::microsec_clock::universal_time() + boost::posix_time::seconds(1);
      if (!in_->timed_receive(buffer_.data(), buffer_.size(), size, priority, until)) return 0;
    }
    handler(std::span<const std::byte>(buffer_.data(), size));
    return 1;
  }

 private:
  const Place place_;
  std::vector<std::byte> buffer_;
  std::vector<std::string> owned_;
  std::unique_ptr<bip::message_queue> in_, out_;
};

}  // namespace

std::vector<Subject> boost_subjects() {
  Subject made;
  made.name = "boost_mq";
  made.label = "Boost message_queue";
  made.library =
      "Boost.Interprocess " + std::to_string(BOOST_VERSION / 100000) + "." + std::to_string(BOOST_VERSION / 100 % 1000);
  made.settings = [](const Case& what) {
    return std::to_string(slots(what)) + " slots each way, " +
           (what.wait == Wait::poll ? "try_send and try_receive" : "send and timed_receive");
  };
  made.applies = [](const Case&) { return true; };
  made.measure = [](const Case& what, const Setting& setting) { return measure_link<BoostLink>(what, setting); };
  return {made};
}

}  // namespace cdmf::bench
