#pragma once
// bench/report/summary.h: a run in words: for the terminal, for the README, and the first lines of the page.
#include <string>
#include <vector>

#include "report/bootstrap.h"

namespace cdmf::bench {

/// "ping_pong/poll/64B" for people: "round trip, polling, 64 B".
[[nodiscard]] std::string describe(const Group& group);
/// A value of the group with its unit: "812 ns", "26.6 M messages/s, 1.7 GB/s".
[[nodiscard]] std::string describe_value(const Group& group, double value);
/// "1.53x (1.4 to 1.6)".
[[nodiscard]] std::string describe(const Interval& ratio);
[[nodiscard]] std::string label_of(const Results& results, const std::string& subject);

/// Who leads: first where a peer does, then where nobody does, then where we do. One sentence each.
struct Headlines {
  std::vector<std::string> peers_lead, equal, we_lead;
};
[[nodiscard]] Headlines headlines(const Results& results);

/// What `./dev bench` prints at its end.
[[nodiscard]] std::string summary_text(const Results& results);
/// The README's table, in Markdown: us against the best peer.
[[nodiscard]] std::string readme_table(const Results& results);
/// The README's two drawings, with the machine named: round trips of 64 B, streams of 64 KiB.
[[nodiscard]] std::string readme_round_trips(const Results& results);
[[nodiscard]] std::string readme_streams(const Results& results);

}  // namespace cdmf::bench
