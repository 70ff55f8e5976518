#pragma once
// cli/line_splitter.h: cuts a stream of bytes into lines, whatever pieces it arrives in.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "cli/command_error.h"

namespace cdmf::ipc::cli {

/// A line is what stands before a '\n'; the last one may lack it. Carriage returns and NUL are bytes like others.
class LineSplitter {
 public:
  /// line_bytes_max  Longest line, without its '\n'.
  explicit LineSplitter(std::size_t line_bytes_max) : line_bytes_max_(line_bytes_max) {}

  /// Takes the next piece and calls line(std::string_view) for each line that is now whole. The view is valid during
  /// the call. throws CommandError, naming the line's number and the limit, as soon as a line is known to be too long;
  /// all lines before it have been handed out.
  template <class Line>
  void feed(std::string_view piece, Line&& line) {
    for (std::size_t end = 0; (end = piece.find('\n')) != std::string_view::npos; piece.remove_prefix(end + 1)) {
      hand_out(piece.substr(0, end), line);
    }
    check_length(piece);
    begun_ += piece;
  }

  /// The input has ended: hands out a last line without '\n', if there is one.
  template <class Line>
  void finish(Line&& line) {
    if (!begun_.empty()) hand_out({}, line);
  }

  /// Lines handed out so far.
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }

 private:
  template <class Line>
  void hand_out(std::string_view rest, Line&& line) {
    check_length(rest);
    ++count_;
    if (begun_.empty()) return line(rest);
    begun_ += rest;
    line(std::string_view(begun_));
    begun_.clear();
  }

  void check_length(std::string_view rest) const {
    if (begun_.size() + rest.size() <= line_bytes_max_) return;
    throw CommandError("line " + std::to_string(count_ + 1) + " is longer than max_message_size (" +
                       std::to_string(line_bytes_max_) +
                       " bytes); nothing of it was sent. Raise max_message_size, or "
                       "use --raw for input that is not lines");
  }

  std::size_t line_bytes_max_;
  std::string begun_;  // A line whose end has not arrived.
  std::uint64_t count_ = 0;
};

}  // namespace cdmf::ipc::cli
