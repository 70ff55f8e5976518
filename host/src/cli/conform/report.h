#pragma once
// cli/conform/report.h: results of the conformance suite for people (table) and for programs (JUnit XML). Pure.
#include <string>
#include <vector>

#include "cli/conform/suite_process.h"

namespace cdmf::ipc::cli::conform {

/// Every test of one plugin under one configuration.
struct Column {
  std::string name;                 ///< "shm", or "shm/fast" when several entries of that type are tested
  std::string description;          ///< path and configuration
  std::vector<TestResult> results;  ///< in the order of the tests
};

struct Count {
  std::size_t passed = 0;
  std::size_t failed = 0;
  std::size_t skipped = 0;
};
[[nodiscard]] Count count(const Column& column);

/// "ok       0.02 s  Life.X", and the reason below it unless it passed.
[[nodiscard]] std::string line_text(const std::string& test, const TestResult& result);
/// Tests x columns, and below it the totals.
[[nodiscard]] std::string matrix_text(const std::vector<std::string>& tests, const std::vector<Column>& columns);
/// "shm: 60 tests, 58 passed, 2 skipped, 0 failed".
[[nodiscard]] std::string total_text(const Column& column);
/// One <testsuite> for each column. What XML cannot carry becomes U+FFFD.
[[nodiscard]] std::string junit_text(const std::vector<std::string>& tests, const std::vector<Column>& columns);

}  // namespace cdmf::ipc::cli::conform
