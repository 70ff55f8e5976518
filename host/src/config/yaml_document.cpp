#include "config/yaml_document.h"

#include <yaml-cpp/anchor.h>
#include <yaml-cpp/emitterstyle.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <sstream>
#include <unordered_map>
#include <utility>

#include "config/read_file.h"
#include "config/text_check.h"

namespace cdmf::ipc::config {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::string_view kEmptyFileHint = "a configuration starts with 'version: 1'";

/// Ends parsing from inside an event; its problem has been added.
struct StopParsing {};

/// Text that the parser works on, and how its marks (0-based, columns in bytes) become positions.
class Source {
 public:
  explicit Source(std::string_view text) : text_(text) {}

  Position position(const YAML::Mark& mark) const {
    if (mark.pos < 0 || mark.line < 0 || mark.column < 0) return {};
    const std::size_t offset = offset_of(mark);
    const std::size_t row_start = offset - std::min(offset, static_cast<std::size_t>(mark.column));
    // Counting goes on where it stopped: from the start of the row each time, a long row would take quadratic time.
    if (row_start != counted_.row_start || offset < counted_.offset) counted_ = {row_start, row_start, 1};
    const std::string_view uncounted = text_.substr(counted_.offset, offset - counted_.offset);
    counted_.column += position_at(uncounted, uncounted.size()).column - 1;
    counted_.offset = offset;
    return {static_cast<std::uint32_t>(mark.line + 1), counted_.column};
  }

  /// The text from the mark on.
  std::string_view from(const YAML::Mark& mark) const { return text_.substr(offset_of(mark)); }

  /// Whether the marked line is indented with a tab, which looks like an indentation and is none.
  bool has_tab_indentation(const YAML::Mark& mark) const {
    const std::size_t offset = offset_of(mark);
    const std::size_t row_start = offset - std::min(offset, static_cast<std::size_t>(std::max(mark.column, 0)));
    const std::string_view row = text_.substr(row_start);
    const std::size_t first = row.find_first_not_of(" \t");
    return row.substr(0, first).find('\t') != std::string_view::npos;
  }

 private:
  std::size_t offset_of(const YAML::Mark& mark) const {
    return std::min(text_.size(), static_cast<std::size_t>(std::max(mark.pos, 0)));
  }

  struct Counted {
    std::size_t row_start = 0;
    std::size_t offset = 0;    // Characters of the row before it are counted,
    std::uint32_t column = 1;  // and this is the column it stands in.
  };

  std::string_view text_;
  mutable Counted counted_;
};

/// The rest of `text` up to the first character of `stops`.
std::string_view word_before(std::string_view text, std::string_view stops) {
  return text.substr(0, text.find_first_of(stops));
}

bool is_written_null(std::string_view text) {
  const std::string_view word = word_before(text, " \t\r\n,]}");
  return word == "~" || word == "null" || word == "Null" || word == "NULL";
}

/// The parser takes the end of the file for the end of a quoted text: half a file would pass for a whole one.
bool is_quote_left_open(std::string_view text) {
  if (text.empty() || (text[0] != '\'' && text[0] != '"')) return false;
  const char quote = text[0];
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (quote == '"' && text[i] == '\\') {
      ++i;
    } else if (text[i] == quote) {
      if (quote == '"' || i + 1 == text.size() || text[i + 1] != quote) return false;
      ++i;  // '' stands for one '.
    }
  }
  return true;
}

/// Makes the tree from the parser's events, which unlike its own tree tell of tags, anchors and aliases, expand
/// nothing, and carry exact places.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(const Source& source, Problems& problems) : source_(source), problems_(problems) {}

  /// The document's node once HandleNextDocument() returned; nothing when there was none.
  std::optional<YamlNode> take_root() { return std::move(root_); }

  /// Place of the innermost '[' or '{' that is still open, if any.
  std::optional<Position> open_flow(YamlNode::Kind kind) const {
    for (auto frame = frames_.rbegin(); frame != frames_.rend(); ++frame) {
      if (frame->flow && frame->node.kind == kind) return frame->node.position;
    }
    return std::nullopt;
  }

  /// Where the parser is: "transports.main.options[2]".
  std::string path() const {
    std::string path;
    for (const Frame& frame : frames_) {
      if (frame.node.kind == YamlNode::Kind::sequence) {
        path += "[" + std::to_string(frame.node.items.size()) + "]";
      } else if (frame.has_key) {
        if (!path.empty()) path += ".";
        path += printable(frame.key);
      }
    }
    return path;
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (document_count_++ == 0) return;
    const bool marked = source_.from(mark).substr(0, 3) == "---";
    problems_.add(source_.position(mark), {},
                  marked ? "a second document starts here" : "text after the end of the document",
                  marked ? "keep one document in a file" : "check the indentation and the brackets above it");
    throw StopParsing{};
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    const Position place = source_.position(mark);
    if (frames_.empty()) {
      problems_.add({}, {}, "the file is empty", std::string(kEmptyFileHint));
    } else if (expects_key()) {
      problems_.add(place, path(), "a key is missing before ':'");
    } else if (is_written_null(source_.from(mark))) {
      problems_.add(place, path(), "null is not a value", "write a value, or delete the key");
    } else {
      // The parser marks where it noticed, which may be lines later.
      const bool in_map = frames_.back().node.kind == YamlNode::Kind::map;
      problems_.add(in_map ? frames_.back().key_position : place, path(), "has no value",
                    "write 'key: value', or delete the key");
    }
    attach(refused_at(place));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    problems_.add(source_.position(mark), path(), "aliases ('*') are not supported", "write the value out");
    attach(refused_at(source_.position(mark)));
  }

  void OnAnchor(const YAML::Mark& mark, const std::string& name) override {
    problems_.add(source_.position(mark), path(), "anchors ('&') are not supported: " + in_quotes(name),
                  "write the value out wherever it is needed");
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& value) override {
    YamlNode node;
    node.kind = YamlNode::Kind::scalar;
    node.position = source_.position(mark);
    node.quoted = tag == "!";
    node.text = value;
    bool fine = check_tag(mark, tag);
    if (is_quote_left_open(source_.from(mark))) {
      problems_.add(node.position, path(), "the quote is never closed");
      fine = false;
    }
    if (value.find('\0') != std::string::npos) {
      // Values travel to plugins as C strings, which would end there.
      problems_.add(node.position, path(), "holds a zero character");
      fine = false;
    }
    if (!is_utf8(value)) {
      // The text was; the parser makes one byte of each of these two escapes.
      problems_.add(node.position, path(), "the escapes '\\N' and '\\_' are not supported",
                    "write '\\u0085' and '\\u00a0'");
      fine = false;
    }
    if (!fine) node = refused_at(node.position);
    attach(std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    start(YamlNode::Kind::sequence, mark, tag);
  }
  void OnSequenceEnd() override { end(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, YAML::EmitterStyle::value) override {
    start(YamlNode::Kind::map, mark, tag);
  }
  void OnMapEnd() override { end(); }

 private:
  struct Frame {
    YamlNode node;
    bool flow = false;  // Written with brackets.
    // Map: where each key was first given (a search through the entries would be quadratic), and the key whose value
    // comes next.
    std::unordered_map<std::string, Position> first_given;
    bool has_key = false;
    bool key_refused = false;
    std::string key;
    Position key_position;
  };

  static YamlNode refused_at(Position position) {
    YamlNode node;
    node.position = position;
    return node;
  }

  bool expects_key() const {
    return !frames_.empty() && frames_.back().node.kind == YamlNode::Kind::map && !frames_.back().has_key;
  }

  /// "?" is a node without a tag, "!" a quoted one; the latter is also what a lone '!' gives.
  bool check_tag(const YAML::Mark& mark, const std::string& tag) {
    const std::string_view text = source_.from(mark);
    const bool lone = tag == "!" && !text.empty() && text[0] == '!';
    if (tag.empty() || tag == "?" || (tag == "!" && !lone)) return true;
    const bool at_tag = !text.empty() && text[0] == '!';
    problems_.add(source_.position(mark), path(),
                  "tags ('!') are not supported: " + in_quotes(at_tag ? word_before(text, " \t\r\n,]}") : tag),
                  "delete the tag; quotes make a value text");
    return false;
  }

  void start(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag) {
    check_tag(mark, tag);
    if (frames_.size() == kYamlDepthMax) {
      problems_.add(source_.position(mark), path(), "nested deeper than " + std::to_string(kYamlDepthMax) + " levels");
      throw StopParsing{};
    }
    Frame frame;
    frame.node.kind = kind;
    frame.node.position = source_.position(mark);
    const std::string_view text = source_.from(mark);
    frame.flow = !text.empty() && text[0] == (kind == YamlNode::Kind::map ? '{' : '[');
    frames_.push_back(std::move(frame));
  }

  void end() {
    YamlNode node = std::move(frames_.back().node);
    frames_.pop_back();
    attach(std::move(node));
  }

  void attach(YamlNode node) {
    if (frames_.empty()) {
      root_ = std::move(node);
    } else if (expects_key()) {
      attach_key(std::move(node));
    } else if (Frame& frame = frames_.back(); frame.node.kind == YamlNode::Kind::sequence) {
      frame.node.items.push_back(std::move(node));
    } else {
      if (!frame.key_refused) frame.node.entries.push_back({std::move(frame.key), frame.key_position, std::move(node)});
      frame.has_key = false;
    }
  }

  void attach_key(YamlNode node) {
    std::string where = path();
    Frame& frame = frames_.back();
    frame.has_key = true;
    frame.key_refused = true;
    frame.key = node.kind == YamlNode::Kind::scalar ? node.text : "?";
    frame.key_position = node.position;
    if (node.kind == YamlNode::Kind::refused) return;
    if (node.kind != YamlNode::Kind::scalar) {
      problems_.add(node.position, std::move(where), "a key must be one word, not a list or a map");
    } else if (node.text.empty()) {
      problems_.add(node.position, std::move(where), "a key may not be empty");
    } else if (node.text == "<<" && !node.quoted) {
      problems_.add(node.position, std::move(where), "merge keys ('<<') are not supported", "write the keys out");
    } else if (const auto [first, is_new] = frame.first_given.emplace(node.text, node.position); !is_new) {
      problems_.add(node.position, path(), "is given twice, first at " + to_string(first->second),
                    "keep one of the two");
    } else {
      frame.key_refused = false;
    }
  }

  const Source& source_;
  Problems& problems_;
  std::vector<Frame> frames_;
  std::optional<YamlNode> root_;
  int document_count_ = 0;
};

/// Says a syntax error in words for someone who edits a configuration.
void add_syntax_problem(const YAML::Exception& error, const Source& source, const TreeBuilder& builder,
                        Problems& problems) {
  namespace message = YAML::ErrorMsg;
  Position position = source.position(error.mark);
  std::string reason = error.msg;
  std::string hint;
  const bool open_map = error.msg == message::END_OF_MAP_FLOW;
  if (open_map || error.msg == message::END_OF_SEQ_FLOW) {
    const auto opened = builder.open_flow(open_map ? YamlNode::Kind::map : YamlNode::Kind::sequence);
    if (opened) position = *opened;
    reason = open_map ? "this '{' is not closed" : "this '[' is not closed";
    hint = "add the closing bracket, or the missing ','";
  } else if (error.msg == message::MAP_VALUE) {
    reason = "a ':' is not expected here";
    hint = "check the indentation; a value that holds ': ' needs quotes";
  } else if (error.msg == message::END_OF_MAP || error.msg == message::END_OF_SEQ) {
    reason = "this does not belong to what stands above it";
    hint = "check the indentation: keys of one map start in one column";
  } else if (error.msg == message::UNKNOWN_TOKEN) {
    reason = "a value cannot start like this";
    hint = "put it in quotes";
  } else if (error.msg == message::UNKNOWN_ANCHOR) {
    reason = "aliases ('*') are not supported";
    hint = "write the value out, or put it in quotes";
  } else if (error.msg == message::EOF_IN_SCALAR) {
    reason = "the file ends inside a quoted text";
  } else if (error.msg.starts_with(message::INVALID_ESCAPE)) {
    // The mark is behind the first byte of the escape's character, and that byte is all the parser tells of it.
    YAML::Mark backslash = error.mark;
    backslash.pos -= 2;
    backslash.column -= 2;
    position = source.position(backslash);
    const std::string_view escape = source.from(backslash);
    const std::size_t length = escape.size() > 1 ? character_bytes(escape, 1) : 0;  // 0: the file ends there.
    reason = "unknown escape " + in_quotes(escape.substr(0, 1 + length));
    hint = "a backslash in double quotes starts an escape: write '\\\\', or use single quotes";
  }
  if (source.has_tab_indentation(error.mark)) hint = "indent with spaces, not with tabs";
  problems.add(position, {}, "syntax error: " + reason, std::move(hint));
}

std::optional<YamlNode> parse(std::string_view text, Problems& problems) {
  const Source source(text);
  TreeBuilder builder(source, problems);
  std::istringstream stream{std::string(text)};
  try {
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) {
      problems.add({}, {}, "the file is empty", std::string(kEmptyFileHint));
      return std::nullopt;
    }
    std::optional<YamlNode> root = builder.take_root();
    parser.HandleNextDocument(builder);  // Stops at the start of a second document: nothing reads on for ever.
    return root;
  } catch (const StopParsing&) {
    return std::nullopt;
  } catch (const YAML::Exception& error) {
    add_syntax_problem(error, source, builder, problems);
    return std::nullopt;
  }
}

}  // namespace

const YamlEntry* YamlNode::find(std::string_view key) const {
  const auto entry = std::find_if(entries.begin(), entries.end(), [key](const YamlEntry& e) { return e.key == key; });
  return entry == entries.end() ? nullptr : &*entry;
}

YamlDocument read_yaml_text(std::string name, std::string_view text) {
  YamlDocument document{std::nullopt, Problems(std::move(name))};
  Problems& problems = document.problems;
  if (text.size() > kYamlBytesMax) {
    problems.add({}, {}, "is larger than " + std::to_string(kYamlBytesMax / 1024) + " KiB");
    return document;
  }
  if (text.substr(0, kByteOrderMark.size()) == kByteOrderMark) text.remove_prefix(kByteOrderMark.size());
  if (auto fault = find_text_fault(text)) {
    problems.add(position_at(text, fault->offset), {}, std::move(fault->reason), std::move(fault->hint));
    return document;
  }

  document.root = parse(text, problems);
  if (document.root && document.root->kind != YamlNode::Kind::map) {
    if (document.root->kind != YamlNode::Kind::refused) {
      problems.add(document.root->position, {}, "the document is not a map",
                   "write lines of 'key: value', with a space after ':'");
    }
    document.root.reset();
  }
  return document;
}

YamlDocument read_yaml_file(const std::string& path) {
  FileText file = read_small_file(path, kYamlBytesMax);
  if (file.ok) return read_yaml_text(path, file.text);
  YamlDocument document{std::nullopt, Problems(path)};
  document.problems.add({}, {}, std::move(file.reason), std::move(file.hint));
  return document;
}

}  // namespace cdmf::ipc::config
