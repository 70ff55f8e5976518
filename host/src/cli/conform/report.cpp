#include "cli/conform/report.h"

#include <cstdio>
#include <numeric>

#include "cli/plugin_text.h"

namespace cdmf::ipc::cli::conform {
namespace {

const char* word(Verdict verdict) {
  switch (verdict) {
    case Verdict::passed:
      return "ok";
    case Verdict::skipped:
      return "skipped";
    case Verdict::failed:
      break;
  }
  return "FAILED";
}

std::string seconds(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.3f", value);
  return text;
}

std::string indented(const std::string& text, const char* indent) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    result += indent + text.substr(at, end - at) + '\n';
    at = end + 1;
  }
  return result;
}

/// How many bytes at `at` form one character that XML 1.0 may contain; 0: none do.
std::size_t xml_character_at(const std::string& text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(i < text.size() ? text[i] : 0); };
  const unsigned first = byte(at);
  if (first < 0x80) return first >= 0x20 || first == '\n' || first == '\t' ? 1 : 0;
  const std::size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4) return 0;
  unsigned code = first & (0x7fu >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(at + i) & 0x3fu);
  }
  const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < least[size] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) || code == 0xfffe || code == 0xffff) {
    return 0;
  }
  return size;
}

std::string escaped(const std::string& text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t size = xml_character_at(text, at);
    if (size == 0) {
      result += "\xef\xbf\xbd";
      ++at;
      continue;
    }
    switch (text[at]) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\n':
        result += "&#10;";  // Else an attribute would lose it.
        break;
      default:
        result.append(text, at, size);
    }
    at += size;
  }
  return result;
}

std::string counts(const Count& all, double time) {
  return "tests=\"" + std::to_string(all.passed + all.failed + all.skipped) + "\" failures=\"" +
         std::to_string(all.failed) + "\" errors=\"0\" skipped=\"" + std::to_string(all.skipped) + "\" time=\"" +
         seconds(time) + '"';
}

double total_seconds(const Column& column) {
  return std::accumulate(column.results.begin(), column.results.end(), 0.0,
                         [](double sum, const TestResult& each) { return sum + each.seconds.count(); });
}

}  // namespace

Count count(const Column& column) {
  Count all;
  for (const TestResult& each : column.results) {
    ++(each.verdict == Verdict::passed ? all.passed : each.verdict == Verdict::skipped ? all.skipped : all.failed);
  }
  return all;
}

std::string line_text(const std::string& test, const TestResult& result) {
  char start[40];
  std::snprintf(start, sizeof start, "%-8s%6.2f s  ", word(result.verdict), result.seconds.count());
  return start + test + '\n' + indented(result.text, "                  ");
}

std::string matrix_text(const std::vector<std::string>& tests, const std::vector<Column>& columns) {
  std::vector<std::vector<std::string>> rows{{"TEST"}};
  for (const Column& column : columns) rows[0].push_back(column.name);
  for (std::size_t i = 0; i < tests.size(); ++i) {
    rows.push_back({tests[i]});
    for (const Column& column : columns) rows.back().push_back(word(column.results[i].verdict));
  }
  rows.push_back({"passed / skipped / failed"});
  for (const Column& column : columns) {
    const Count all = count(column);
    rows.back().push_back(std::to_string(all.passed) + " / " + std::to_string(all.skipped) + " / " +
                          std::to_string(all.failed));
  }
  return table_text(rows);
}

std::string total_text(const Column& column) {
  const Count all = count(column);
  return column.name + ": " + std::to_string(column.results.size()) + " tests, " + std::to_string(all.passed) +
         " passed, " + std::to_string(all.skipped) + " skipped, " + std::to_string(all.failed) + " failed\n";
}

std::string junit_text(const std::vector<std::string>& tests, const std::vector<Column>& columns) {
  Count sum;
  double time = 0;
  for (const Column& column : columns) {
    const Count all = count(column);
    sum = {sum.passed + all.passed, sum.failed + all.failed, sum.skipped + all.skipped};
    time += total_seconds(column);
  }
  std::string xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites " + counts(sum, time) + ">\n";
  for (const Column& column : columns) {
    xml += "  <testsuite name=\"" + escaped("conformance." + column.name) + "\" " +
           counts(count(column), total_seconds(column)) + ">\n    <properties><property name=\"subject\" value=\"" +
           escaped(column.description) + "\"/></properties>\n";
    for (std::size_t i = 0; i < tests.size(); ++i) {
      const TestResult& result = column.results[i];
      xml += "    <testcase classname=\"" + escaped("conformance." + column.name) + "\" name=\"" + escaped(tests[i]) +
             "\" time=\"" + seconds(result.seconds.count()) + '"';
      if (result.verdict == Verdict::passed) {
        xml += "/>\n";
        continue;
      }
      if (result.verdict == Verdict::skipped) {
        xml += ">\n      <skipped message=\"" + escaped(result.text) + "\"/>\n    </testcase>\n";
        continue;
      }
      const std::string first_line = result.text.substr(0, result.text.find('\n'));
      xml += ">\n      <failure message=\"" + escaped(first_line) + "\">" + escaped(result.text) +
             "</failure>\n      <system-out>" + escaped(result.output) + "</system-out>\n    </testcase>\n";
    }
    xml += "  </testsuite>\n";
  }
  return xml + "</testsuites>\n";
}

}  // namespace cdmf::ipc::cli::conform
