#pragma once
// bench/report/page.h: report.html: one file that needs nothing else, on the screen and in print.
#include <string>

#include "report/results.h"

namespace cdmf::bench {

[[nodiscard]] std::string page(const Results& results);

}  // namespace cdmf::bench
