#pragma once
// An object of a posix link made by hand and held present, as a living server's: whole and good, until a case spoils
// it.

#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <string>

#include "segment/named_object.h"
#include "segment/segment.h"

namespace cdmf::ipc::shm::testing {

struct ObjectByHand {
  /// spoil  runs before the object has its name; all of the object is behind the control block.
  explicit ObjectByHand(
      const std::string& name, const SegmentPlan& as,
      const std::function<void(SegmentControl&)>& spoil = [](SegmentControl&) {}, mode_t mode = 0600)
      : plan(as) {
    text.struct_size = sizeof text;
    Access access;
    access.mode = mode;
    EXPECT_EQ(NamedObject::create(
                  name, plan.total_size(), {access},
                  [&](std::byte* memory) {
                    Segment::lay_out(memory, plan, {.pid = getpid(), .may_sleep = 1}, {});
                    spoil(*reinterpret_cast<SegmentControl*>(memory));
                  },
                  object, error),
              CDMF_OK)
        << text.message;
  }
  SegmentControl& control() const { return *reinterpret_cast<SegmentControl*>(object.memory()); }
  std::byte* ring(bool tx) const { return object.memory() + kRingsOffset + (tx ? 0 : plan.ring_bytes()); }

  const SegmentPlan plan;
  cdmf_error text{};
  ErrorText error{&text};
  NamedObject object;
};

}  // namespace cdmf::ipc::shm::testing
