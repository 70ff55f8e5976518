#pragma once
// conformance/report.h: results for a program, one line each, as they happen:
//   failed <file>:<line>: <text>     skipped <text>     ended passed|failed|skipped
// with '\n' and '\' in texts written as "\n" and "\\". A test without its `ended` line crashed or hung.
#include <gtest/gtest.h>

#include <string>

namespace cdmf::ipc::conformance {

/// For TestEventListeners::Append, which owns it. Ends the program when the file cannot be written.
[[nodiscard]] ::testing::TestEventListener* make_report(const std::string& file);

}  // namespace cdmf::ipc::conformance
