#pragma once
// config/value_hint.h: what somebody probably meant who wrote a value that an option does not take.
#include <string>
#include <string_view>

#include "ipc/plugin_abi.h"

namespace cdmf::ipc::config {

/// "did you mean '64KiB'?" for "64kib", 'true' for "yes", a choice that is spelled almost so; what is proposed is
/// always a value that the option takes. Otherwise the first sentence of its summary, which may be empty.
std::string value_hint(const cdmf_property& property, std::string_view text);

}  // namespace cdmf::ipc::config
