#include "report/svg.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "made_results.h"
#include "report/page.h"
#include "report/summary.h"

namespace cdmf::bench {
namespace {

std::size_t count_of(const std::string& text, const std::string& word) {
  std::size_t count = 0;
  for (auto at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++count;
  return count;
}

/// Every element that opens closes, in order; good enough for what we write ourselves.
void expect_well_formed(const std::string& text) {
  std::vector<std::string> open;
  for (auto at = text.find('<'); at != std::string::npos; at = text.find('<', at + 1)) {
    const auto end = text.find('>', at);
    ASSERT_NE(end, std::string::npos);
    if (text[at + 1] == '!') continue;  // The doctype.
    const bool closes = text[at + 1] == '/';
    const auto begin = at + (closes ? 2 : 1);
    const std::string name = text.substr(begin, text.find_first_of(" >/", begin) - begin);
    if (name == "meta" || text[end - 1] == '/') continue;
    if (!closes) {
      open.push_back(name);
      continue;
    }
    ASSERT_FALSE(open.empty()) << "</" << name << ">";
    ASSERT_EQ(open.back(), name);
    open.pop_back();
  }
  EXPECT_TRUE(open.empty()) << "<" << (open.empty() ? "" : open.back()) << "> stays open";
  EXPECT_EQ(text.find("nan"), std::string::npos);
  EXPECT_EQ(text.find("inf\""), std::string::npos);
}

TEST(Svg, NumbersAreForPeople) {
  EXPECT_EQ(human_ns(86), "86 ns");
  EXPECT_EQ(human_ns(1234), "1.2 µs");
  EXPECT_EQ(human_ns(3.1e6), "3.1 ms");
  EXPECT_EQ(human_number(26.5e6), "26.5 M");
  EXPECT_EQ(human_number(12), "12");
  EXPECT_EQ(human_size(64), "64 B");
  EXPECT_EQ(human_size(65536), "64 KiB");
  EXPECT_EQ(human_size(1048576), "1 MiB");
}

TEST(Svg, TextIsEscaped) { EXPECT_EQ(escaped("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;"); }

TEST(LineChart, NamesEverySeriesBesideItsEndAndMarksItsPoints) {
  LineChart chart{"A & B", "size", "time", AxisText::bytes, AxisText::nanoseconds, {}};
  chart.series.push_back({"ours <1>", 0, true, {{64, 100}, {1024, 200}}});
  chart.series.push_back({"theirs", 1, false, {{64, 300}, {1024, 900}}});
  const std::string svg = chart.svg();
  expect_well_formed(svg);
  EXPECT_EQ(count_of(svg, "<polyline"), 2u);
  EXPECT_EQ(count_of(svg, "ours &lt;1&gt;"), 1u);
  EXPECT_EQ(count_of(svg, "<circle"), 3u);   // Two points and the name.
  EXPECT_EQ(count_of(svg, "<polygon"), 3u);  // The other's: another shape, so that grey is enough.
  EXPECT_EQ(count_of(svg, "stroke-dasharray=\"7 3\""), 1u);
}

TEST(LineChart, NamesOfLinesThatEndTogetherDoNotOverlap) {
  LineChart chart{"t", "x", "y", AxisText::bytes, AxisText::nanoseconds, {}};
  for (int i = 0; i < 15; ++i) chart.series.push_back({"s", i, false, {{64, 100}, {1024, 200.0 + i}}});
  const std::string svg = chart.svg();
  const std::string label = "<text x=\"644.0\" y=\"";
  std::vector<double> ys;
  for (auto at = svg.find(label); at != std::string::npos; at = svg.find(label, at + 1)) {
    ys.push_back(std::stod(svg.substr(at + label.size(), 8)));
  }
  ASSERT_EQ(ys.size(), 15u);
  std::sort(ys.begin(), ys.end());
  for (std::size_t i = 1; i < ys.size(); ++i) EXPECT_GE(ys[i] - ys[i - 1], 14.9);
  EXPECT_GT(ys.front(), 0);
  EXPECT_LT(ys.back(), chart.height);
}

TEST(LineChart, OfNothingSaysSo) {
  const std::string svg = LineChart{"t", "x", "y", AxisText::bytes, AxisText::nanoseconds, {}}.svg();
  expect_well_formed(svg);
  EXPECT_NE(svg.find("nothing was measured"), std::string::npos);
}

TEST(DotChart, ARowForEachWithItsIntervalAndText) {
  DotChart chart;
  chart.title = "ratios";
  chart.reference = 1;
  chart.reference_text = "equal";
  chart.rows = {{"first", 2, 1.5, 3, 0, true, "2.00x"}, {"second", 0.5, 0, 0, 1, false, "0.50x"}};
  const std::string svg = chart.svg();
  expect_well_formed(svg);
  EXPECT_EQ(count_of(svg, ">2.00x<"), 1u);
  EXPECT_EQ(count_of(svg, ">second<"), 1u);
  EXPECT_EQ(count_of(svg, ">equal<"), 1u);
}

TEST(Page, SaysFirstWhereAPeerLeads) {
  const std::string html = page(test::made_results(900, 1));
  expect_well_formed(html);
  const auto peer = html.find("A peer leads in 2 of 2"), drawing = html.find("<svg"), machine = html.find("<h2>");
  ASSERT_NE(peer, std::string::npos);
  EXPECT_LT(peer, drawing);
  EXPECT_LT(peer, machine);
  EXPECT_NE(html.find("A &lt;processor&gt;"), std::string::npos);
}

TEST(Page, NeedsNothingElse) {
  const std::string html = page(test::made_results(500, 1));
  for (const char* word : {"<script", "<link", "<img", "src=", "href=", "@import", "url("}) {
    EXPECT_EQ(html.find(word), std::string::npos) << word;
  }
  EXPECT_NE(html.find("No peer leads in any of 2"), std::string::npos);
  EXPECT_NE(html.find("not built in"), std::string::npos);  // Who was not measured, and why.
}

TEST(Page, OfAnEmptyRunIsAPage) { expect_well_formed(page(Results{})); }

TEST(Summary, SaysWhoLeadsAndTheReadmesTableHasARatio) {
  const Results results = test::made_results(500, 1);
  EXPECT_NE(summary_text(results).find("We lead (2)"), std::string::npos);
  EXPECT_NE(readme_table(results).find("round trip, polling, 64 B"), std::string::npos);
  expect_well_formed(readme_round_trips(results));
  EXPECT_NE(readme_round_trips(results).find("A &lt;processor&gt;"), std::string::npos);
  expect_well_formed(readme_streams(results));
}

}  // namespace
}  // namespace cdmf::bench
