#pragma once
// rpc/refused.h: what an ERROR message means to the caller.
#include "ipc/call.h"
#include "ipc/message.h"

namespace cdmf::ipc::rpc {

/// Its text lies in the message.
[[nodiscard]] CallReply refused(const MessageView& message) noexcept;

}  // namespace cdmf::ipc::rpc
