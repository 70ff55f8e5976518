#pragma once
// bench/spec_figures.h: the specification's own figures (§1, §7.1 to §7.4) with ours beside them.
#include <vector>

#include "peers/subject.h"
#include "report/results.h"

namespace cdmf::bench {

/// Measures the stages of §7.1 and the layouts of §7.3; takes the rest from what the run has found.
[[nodiscard]] std::vector<SpecFigure> spec_figures(const Results& results, const Setting& setting);

}  // namespace cdmf::bench
