#pragma once
// bench/report/svg.h: the drawings of the report, as SVG that stands alone or inside a page. Readable without colour:
// every series has its own marker and dashes, and its name beside its end.
#include <string>
#include <vector>

namespace cdmf::bench {

/// Text for XML: & < > and quotes are escaped.
[[nodiscard]] std::string escaped(const std::string& text);
/// "1.2 µs", "86 ns", "3.1 ms".
[[nodiscard]] std::string human_ns(double ns);
/// "26.5 M", "840 k", "12".
[[nodiscard]] std::string human_number(double value);
/// "64 B", "64 KiB", "1 MiB".
[[nodiscard]] std::string human_size(double bytes);

struct ChartPoint {
  double x = 0, y = 0;
};
struct ChartSeries {
  std::string label;
  int style = 0;  ///< the same number looks the same in every drawing
  bool strong = false;
  std::vector<ChartPoint> points;  ///< all above 0; ascending x
};
enum class AxisText { bytes, nanoseconds, number, percentile };

/// Lines over two logarithmic axes.
struct LineChart {
  std::string title, x_title, y_title;
  AxisText x_text = AxisText::bytes, y_text = AxisText::nanoseconds;
  std::vector<ChartSeries> series;
  int width = 860, height = 440;

  [[nodiscard]] std::string svg() const;
};

/// A row for each thing: a mark at its value and a line over its interval, on a logarithmic axis.
struct DotChart {
  struct Row {
    std::string label;
    double value = 0, low = 0, high = 0;  ///< above 0; low and high 0: no interval
    int style = 0;
    bool strong = false;
    std::string text;  ///< at the right
  };
  std::string title, x_title;
  AxisText x_text = AxisText::number;
  double reference = 0;  ///< a vertical line there; 0: none
  std::string reference_text;
  std::vector<Row> rows;
  std::string footer;  ///< a line below: the machine, where the drawing stands alone
  int width = 860;

  [[nodiscard]] std::string svg() const;
};

}  // namespace cdmf::bench
