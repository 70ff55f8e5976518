#include "pool/pool_layout.h"

#include <unistd.h>

#include "ipc/driver.h"

namespace cdmf::ipc::shm {

void lay_out_pool(std::byte* memory, const PoolPlan& plan) noexcept {
  auto& header = reinterpret_cast<PoolControl*>(memory)->header;
  header.magic = kSegmentMagic;
  header.version = kPoolVersion;
  header.total_size = plan.total_size();
  header.ring_capacity = plan.ring_capacity;
  header.slot_size = plan.slot_size;
  header.kind = kPoolKind;
  header.members_max = kPoolMembersMax;
  header.creator_pid = getpid();
  header.checksum = plan.checksum ? 1 : 0;
  header.frame_size_max = plan.frame_size_max;
  header.members_offset = kPoolMembersOffset;
  header.ring_offset = kPoolRingOffset;
}

bool read_pool_plan(const PoolHeader& header, std::uint64_t size, PoolPlan& plan) noexcept {
  plan = {header.ring_capacity, header.slot_size, header.frame_size_max, header.checksum != 0};
  return MpmcRecordMemory::is_valid(plan.ring_capacity, plan.slot_size, kPoolMembersMax) &&
         header.members_max == kPoolMembersMax && header.members_offset == kPoolMembersOffset &&
         header.ring_offset == kPoolRingOffset && plan.total_size() == size && header.total_size == size &&
         header.checksum <= 1 && plan.frame_size_max > CDMF_FRAME_OVERHEAD_MAX &&
         plan.frame_size_max <= plan.slot_size &&  // First, as what is added to it now could wrap round.
         pool_slot_size_for(plan.frame_size_max) <= plan.slot_size;
}

}  // namespace cdmf::ipc::shm
