#include "report/svg.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace cdmf::bench {
namespace {

// Told apart by most people who do not see all colours, and dark enough for print.
constexpr const char* kColours[] = {"#0b5fa5", "#b3470f", "#1b7a3d", "#6a3fa0", "#7a6000", "#a1306b",
                                    "#2f6f73", "#444444", "#8a1f1f", "#35478c", "#5d6d1e", "#7d4f2a"};
constexpr const char* kDashes[] = {"", "7 3", "2 3", "9 3 2 3", "4 2", "12 4"};
constexpr int kColourCount = sizeof kColours / sizeof *kColours;
constexpr int kDashCount = sizeof kDashes / sizeof *kDashes;
constexpr int kMarkerCount = 8;

std::string format(const char* pattern, double a, double b = 0, double c = 0, double d = 0) {
  char text[200];
  std::snprintf(text, sizeof text, pattern, a, b, c, d);
  return text;
}

const char* colour(int style) { return kColours[style % kColourCount]; }

std::string text_at(double x, double y, const std::string& text, const char* anchor = "start", double size = 12,
                    const std::string& more = {}) {
  return format("<text x=\"%.1f\" y=\"%.1f\" font-size=\"%.0f\" ", x, y, size) + "text-anchor=\"" + anchor + "\" " +
         more + ">" + escaped(text) + "</text>\n";
}

std::string line_at(double x1, double y1, double x2, double y2, const std::string& style) {
  return format("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" ", x1, y1, x2, y2) + style + "/>\n";
}

/// A shape of its own for each style: what is left to tell them apart in grey.
std::string marker(int style, double x, double y, double r) {
  const std::string paint = std::string(" fill=\"") + (style / kMarkerCount % 2 == 0 ? colour(style) : "#fff") +
                            "\" stroke=\"" + colour(style) + "\" stroke-width=\"1.5\"";
  const auto polygon = [&](std::initializer_list<std::pair<double, double>> corners) {
    std::string points;
    for (const auto& [dx, dy] : corners) points += format("%.1f,%.1f ", x + r * dx, y + r * dy);
    return "<polygon points=\"" + points + "\"" + paint + "/>\n";
  };
  switch (style % kMarkerCount) {
    case 0:
      return format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"", x, y, r) + paint + "/>\n";
    case 1:
      return polygon({{-1, -1}, {1, -1}, {1, 1}, {-1, 1}});
    case 2:
      return polygon({{0, -1.2}, {1.1, 0.9}, {-1.1, 0.9}});
    case 3:
      return polygon({{0, -1.3}, {1.3, 0}, {0, 1.3}, {-1.3, 0}});
    case 4:
      return polygon({{0, 1.2}, {1.1, -0.9}, {-1.1, -0.9}});
    case 5:
      return polygon({{-1.3, -0.45},
                      {-0.45, -0.45},
                      {-0.45, -1.3},
                      {0.45, -1.3},
                      {0.45, -0.45},
                      {1.3, -0.45},
                      {1.3, 0.45},
                      {0.45, 0.45},
                      {0.45, 1.3},
                      {-0.45, 1.3},
                      {-0.45, 0.45},
                      {-1.3, 0.45}});
    case 6:
      return polygon({{-1.3, 0}, {-0.65, -1.1}, {0.65, -1.1}, {1.3, 0}, {0.65, 1.1}, {-0.65, 1.1}});
    default:
      return polygon(
          {{0, -1.3}, {0.35, -0.35}, {1.3, 0}, {0.35, 0.35}, {0, 1.3}, {-0.35, 0.35}, {-1.3, 0}, {-0.35, -0.35}});
  }
}

std::string axis_number(AxisText kind, double value) {
  switch (kind) {
    case AxisText::bytes:
      return human_size(value);
    case AxisText::nanoseconds:
      return human_ns(value);
    case AxisText::percentile: {
      // x is 1 / (1 - fraction): 2 is the median, 1000 is p99.9.
      const double percent = 100 * (1 - 1 / value);
      return "p" + format(value > 5000 ? "%.2f" : value > 500 ? "%.1f" : "%.0f", percent);
    }
    case AxisText::number:
      break;
  }
  return human_number(value);
}

/// A logarithmic axis over [low, high] onto pixels.
struct LogAxis {
  double low = 1, high = 10, from = 0, to = 1;

  [[nodiscard]] double at(double value) const {
    return from + (to - from) * std::log(value / low) / std::log(high / low);
  }
  /// Powers of ten; with 2 and 5 between them when there are few.
  [[nodiscard]] std::vector<double> ticks() const {
    std::vector<double> out;
    const bool fine = high / low < 1500;
    for (double power = std::pow(10, std::floor(std::log10(low))); power <= high * 1.0001; power *= 10) {
      for (const double step : {1.0, 2.0, 5.0}) {
        const double value = power * step;
        if ((fine || step == 1.0) && value >= low * 0.9999 && value <= high * 1.0001) out.push_back(value);
      }
    }
    return out;
  }
};

std::string open_svg(int width, double height, const std::string& title) {
  return format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" ",
                width, height, width, height) +
         "role=\"img\" aria-label=\"" + escaped(title) +
         "\" font-family=\"system-ui, 'DejaVu Sans', Arial, sans-serif\" fill=\"#1a1a1a\">\n" +
         format("<rect width=\"%.0f\" height=\"%.0f\" fill=\"#fff\"/>\n", width, height);
}

constexpr const char* kGrid = "stroke=\"#d8d8d8\" stroke-width=\"1\"";
constexpr const char* kFrame = "stroke=\"#777\" stroke-width=\"1\"";

}  // namespace

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string human_ns(double ns) {
  const auto scaled = [](double value, const char* unit) {
    return format(value < 9.95 && value != std::floor(value) ? "%.1f" : "%.0f", value) + " " + unit;
  };
  if (ns < 999.5) return scaled(ns, "ns");
  if (ns < 999.5e3) return scaled(ns / 1e3, "µs");
  return ns < 999.5e6 ? scaled(ns / 1e6, "ms") : scaled(ns / 1e9, "s");
}

std::string human_number(double value) {
  const auto scaled = [](double v, const char* unit) {
    return format(v < 9.995 && v != std::floor(v)   ? (v < 0.995 ? "%.2g" : "%.3g")
                  : v < 99.95 && v != std::floor(v) ? "%.1f"
                                                    : "%.0f",
                  v) +
           unit;
  };
  if (value < 9999.5) return scaled(value, "");
  if (value < 999.5e3) return scaled(value / 1e3, " k");
  return value < 999.5e6 ? scaled(value / 1e6, " M") : scaled(value / 1e9, " G");
}

std::string human_size(double bytes) {
  if (bytes >= 1048576) return format("%.3g MiB", bytes / 1048576);
  return bytes >= 1024 ? format(bytes < 100 * 1024 ? "%.3g KiB" : "%.0f KiB", bytes / 1024) : format("%.0f B", bytes);
}

std::string LineChart::svg() const {
  double x_low = 1e300, x_high = 0, y_low = 1e300, y_high = 0;
  std::vector<double> xs;
  for (const ChartSeries& each : series) {
    for (const ChartPoint& point : each.points) {
      x_low = std::min(x_low, point.x);
      x_high = std::max(x_high, point.x);
      y_low = std::min(y_low, point.y);
      y_high = std::max(y_high, point.y);
      if (std::find(xs.begin(), xs.end(), point.x) == xs.end()) xs.push_back(point.x);
    }
  }
  std::string out = open_svg(width, height, title);
  out += text_at(14, 22, title, "start", 15, "font-weight=\"600\"");
  if (xs.empty()) return out + text_at(14, 60, "nothing was measured") + "</svg>\n";
  constexpr double kLeft = 74, kTop = 40, kLabels = 250;
  const double bottom = height - 48, right = width - kLabels;
  if (x_high <= x_low) x_high = 2 * x_low;
  const LogAxis x{x_low, x_high, kLeft, right};
  const LogAxis y{y_low / 1.2, y_high * 1.2, bottom, kTop};

  const std::vector<double> x_ticks = x_text == AxisText::bytes ? xs
                                      : x_text == AxisText::percentile
                                          ? std::vector<double>{2, 10, 100, 1000, 10000, 100000}
                                          : x.ticks();
  for (const double tick : y.ticks()) {
    out += line_at(kLeft, y.at(tick), right, y.at(tick), kGrid);
    out += text_at(kLeft - 6, y.at(tick) + 4, axis_number(y_text, tick), "end", 11);
  }
  for (const double tick : x_ticks) {
    if (tick < x_low * 0.999 || tick > x_high * 1.001) continue;
    out += line_at(x.at(tick), kTop, x.at(tick), bottom, kGrid);
    out += text_at(x.at(tick), bottom + 16, axis_number(x_text, tick), "middle", 11);
  }
  out += line_at(kLeft, bottom, right, bottom, kFrame) + line_at(kLeft, kTop, kLeft, bottom, kFrame);
  out += text_at((kLeft + right) / 2, height - 10, x_title, "middle", 12);
  out +=
      text_at(0, 0, y_title, "middle", 12, format("transform=\"translate(14 %.0f) rotate(-90)\"", (kTop + bottom) / 2));

  struct Label {
    double wanted, y;
    const ChartSeries* series;
  };
  std::vector<Label> labels;
  for (const ChartSeries& each : series) {
    if (each.points.empty()) continue;
    std::string points;
    for (const ChartPoint& point : each.points) points += format("%.1f,%.1f ", x.at(point.x), y.at(point.y));
    out += "<polyline fill=\"none\" stroke=\"" + std::string(colour(each.style)) + "\" stroke-width=\"" +
           (each.strong ? "2.6" : "1.4") + "\" stroke-dasharray=\"" + kDashes[each.style % kDashCount] +
           "\" points=\"" + points + "\"/>\n";
    // A distribution has too many points to mark each.
    const std::size_t every = std::max<std::size_t>(1, each.points.size() / 8);
    for (std::size_t i = 0; i < each.points.size(); i += every) {
      out += marker(each.style, x.at(each.points[i].x), y.at(each.points[i].y), each.strong ? 4.5 : 3.6);
    }
    const double at = y.at(each.points.back().y);
    labels.push_back({at, at, &each});
  }
  // Names at the ends of their lines, moved apart where lines end together.
  std::sort(labels.begin(), labels.end(), [](const Label& a, const Label& b) { return a.wanted < b.wanted; });
  constexpr double kApart = 15;
  double floor = kTop;
  for (Label& each : labels) {
    each.y = std::max(each.wanted, floor);
    floor = each.y + kApart;
  }
  double ceiling = bottom + 26;
  for (auto each = labels.rbegin(); each != labels.rend(); ++each) {
    each->y = std::min(each->y, ceiling);
    ceiling = each->y - kApart;
  }
  for (const Label& each : labels) {
    const ChartPoint& end = each.series->points.back();
    out += line_at(x.at(end.x) + 4, each.wanted, right + 18, each.y, "stroke=\"#aaa\" stroke-width=\"0.7\"");
    out += marker(each.series->style, right + 24, each.y, 4);
    out += text_at(right + 34, each.y + 4, each.series->label, "start", 12,
                   each.series->strong ? "font-weight=\"600\"" : "");
  }
  return out + "</svg>\n";
}

std::string DotChart::svg() const {
  constexpr double kLeft = 300, kTop = 60, kRow = 22, kRight = 150;
  const double bottom = kTop + kRow * static_cast<double>(rows.size()) + 6;
  const double height = bottom + 44 + (footer.empty() ? 0 : 20);
  double low = reference > 0 ? reference : 1e300, high = reference;
  for (const Row& row : rows) {
    low = std::min({low, row.value, row.low > 0 ? row.low : row.value});
    high = std::max({high, row.value, row.high});
  }
  std::string out = open_svg(width, height, title);
  out += text_at(14, 22, title, "start", 15, "font-weight=\"600\"");
  if (rows.empty()) return out + text_at(14, 46, "nothing was measured") + "</svg>\n";
  const LogAxis x{low / 1.25, high * 1.25, kLeft, width - kRight};
  double last_label = -100;
  for (const double tick : x.ticks()) {
    out += line_at(x.at(tick), kTop - 6, x.at(tick), bottom, kGrid);
    if (x.at(tick) - last_label < 46) continue;
    last_label = x.at(tick);
    out += text_at(x.at(tick), bottom + 15, axis_number(x_text, tick), "middle", 11);
  }
  if (reference > 0) {
    out += line_at(x.at(reference), kTop - 8, x.at(reference), bottom, "stroke=\"#000\" stroke-width=\"1.3\"");
    out += text_at(x.at(reference), kTop - 11, reference_text, "middle", 11);
  }
  double at = kTop + kRow / 2;
  for (const Row& row : rows) {
    const char* const weight = row.strong ? "font-weight=\"600\"" : "";
    out += text_at(kLeft - 12, at + 4, row.label, "end", 12, weight);
    out += line_at(kLeft, at, x.at(row.value), at, "stroke=\"#bbb\" stroke-width=\"1\" stroke-dasharray=\"1 3\"");
    if (row.low > 0 && row.high > row.low) {
      out += line_at(x.at(row.low), at, x.at(row.high), at,
                     "stroke=\"" + std::string(colour(row.style)) + "\" stroke-width=\"2\"");
    }
    out += marker(row.style, x.at(row.value), at, row.strong ? 5.5 : 4.5);
    out += text_at(width - kRight + 12, at + 4, row.text, "start", 12, weight);
    at += kRow;
  }
  out += text_at((kLeft + width - kRight) / 2, bottom + 33, x_title, "middle", 12);
  if (!footer.empty()) out += text_at(14, height - 8, footer, "start", 11, "fill=\"#555\"");
  return out + "</svg>\n";
}

}  // namespace cdmf::bench
