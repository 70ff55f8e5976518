#pragma once
// config/problem.h: what is wrong with a configuration, collected so that a user sees everything in one run.
// Lines have the form that editors and terminals turn into links: file:line:column: key: reason; hint.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cdmf::ipc::config {

/// A place in a text. Both count from 1, columns in characters; 0 means that there is no place to point at.
struct Position {
  std::uint32_t line = 0;
  std::uint32_t column = 0;

  friend bool operator==(const Position&, const Position&) = default;
};

/// "7:15", or "" without a place.
std::string to_string(Position position);

struct Problem {
  Position position;   // {} when the whole file is meant.
  std::string key;     // Dotted path, "transports.main.shm"; empty when no key is meant.
  std::string reason;  // What is wrong, with the value that is wrong. Never empty.
  std::string hint;    // What to do; may be empty.
};

/// The problems of one file, in the order of their places.
/// Keeps at most kProblemCountMax, so that a hostile file cannot fill memory or a log; the last line then says so.
class Problems {
 public:
  static constexpr std::size_t kProblemCountMax = 100;

  /// file  Name as the user wrote it; it starts every line.
  explicit Problems(std::string file) : file_(std::move(file)) {}

  void add(Position position, std::string key, std::string reason, std::string hint = {});

  bool empty() const { return problems_.empty(); }
  std::size_t size() const { return problems_.size(); }
  const std::string& file() const { return file_; }
  const std::vector<Problem>& all() const { return problems_; }

  /// One line for each problem, without line ends. Control characters, which a file could smuggle into a terminal,
  /// become \xNN.
  std::vector<std::string> lines() const;
  /// The lines, joined by line ends; empty when there is no problem.
  std::string text() const;

 private:
  std::string file_;
  std::vector<Problem> problems_;  // Sorted by position; equal positions keep the order in which they were found.
  std::size_t not_kept_ = 0;
};

/// text as it may appear in a message: control characters become \xNN, and a long text is cut with "...".
std::string printable(std::string_view text);
/// printable(text) between single quotes.
std::string in_quotes(std::string_view text);

}  // namespace cdmf::ipc::config
