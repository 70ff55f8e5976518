#pragma once
// inspect/extension.h: what this plugin offers besides drivers, by name, and the exception barrier around it.
#include <exception>
#include <new>
#include <utility>

#include "ipc/driver.h"

namespace cdmf::ipc::shm {

/// cdmf_plugin::get_extension of this plugin.
const void* find_extension(const char* name) noexcept;

/// Calls a function behind the C boundary; what it throws becomes a status with a text.
template <typename Call>
cdmf_status guarded_extension(cdmf_error* error, Call&& call) noexcept {
  try {
    return std::forward<Call>(call)();
  } catch (const std::bad_alloc&) {
    return CDMF_RESOURCE_EXHAUSTED;
  } catch (const ConfigError& problem) {
    return ErrorText(error).fail(CDMF_INVALID_CONFIG, 0, problem.what());
  } catch (const std::exception& problem) {
    return ErrorText(error).fail(CDMF_INTERNAL_ERROR, 0, "shm: ", problem.what());
  }
}

}  // namespace cdmf::ipc::shm
