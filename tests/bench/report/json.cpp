#include "report/json.h"

#include <algorithm>
#include <charconv>

namespace cdmf::bench {

class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  Json whole() {
    Json value = read(0);
    skip_space();
    if (at_ != text_.size()) fail("something follows the value");
    return value;
  }

 private:
  static constexpr int kDepthMax = 100;

  [[noreturn]] void fail(const std::string& what) const {
    const auto line = 1 + std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(at_), '\n');
    throw JsonError("line " + std::to_string(line) + ": " + what);
  }
  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
  }
  char peek() {
    if (at_ == text_.size()) fail("the text ends too early");
    return text_[at_];
  }
  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  void expect(char c) {
    skip_space();
    if (peek() != c) fail(std::string("'") + c + "' is missing");
    ++at_;
  }

  Json read(int depth) {
    if (depth > kDepthMax) fail("nested too deeply");
    skip_space();
    Json value;
    switch (peek()) {
      case '{':
        value.kind_ = Json::Kind::object;
        members(value, depth);
        break;
      case '[':
        value.kind_ = Json::Kind::array;
        elements(value, depth);
        break;
      case '"':
        value.kind_ = Json::Kind::string;
        value.string_ = string();
        break;
      default:
        word_or_number(value);
    }
    return value;
  }
  void word_or_number(Json& value) {
    if (take("null")) return;
    if (const bool is_true = take("true"); is_true || take("false")) {
      value.kind_ = Json::Kind::boolean;
      value.boolean_ = is_true;
      return;
    }
    value.kind_ = Json::Kind::number;
    const char c = peek();
    if (c != '-' && (c < '0' || c > '9')) fail("this is no value");  // from_chars would take "inf" and "nan".
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value.number_);
    if (error != std::errc{}) fail("this is no number");
    at_ = static_cast<std::size_t>(end - text_.data());
  }
  void members(Json& value, int depth) {
    expect('{');
    skip_space();
    if (take("}")) return;
    for (;;) {
      skip_space();
      if (peek() != '"') fail("a name is missing");
      std::string name = string();
      expect(':');
      value.object_.insert_or_assign(std::move(name), read(depth + 1));
      skip_space();
      if (!take(",")) break;
    }
    expect('}');
  }
  void elements(Json& value, int depth) {
    expect('[');
    skip_space();
    if (take("]")) return;
    for (;;) {
      value.array_.push_back(read(depth + 1));
      skip_space();
      if (!take(",")) break;
    }
    expect(']');
  }
  std::string string() {
    std::string out;
    for (++at_;; ++at_) {
      const char c = peek();
      if (c == '"') break;
      if (static_cast<unsigned char>(c) < 0x20) fail("a string does not end on its line");
      if (c != '\\') {
        out += c;
        continue;
      }
      ++at_;
      escape(out);
    }
    ++at_;
    return out;
  }
  void escape(std::string& out) {
    static constexpr std::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    const char c = peek();
    if (const auto which = kNames.find(c); which != std::string_view::npos) {
      out += kMeanings[which];
    } else if (c == 'u' && at_ + 4 < text_.size()) {
      unsigned code = 0;
      const char* const digits = text_.data() + at_ + 1;
      if (std::from_chars(digits, digits + 4, code, 16).ptr != digits + 4) fail("\\u wants four hexadecimal digits");
      at_ += 4;
      utf8(code, out);
    } else {
      fail("an unknown escape");
    }
  }
  static void utf8(unsigned code, std::string& out) {  // Halves of pairs stay halves; nobody writes them here.
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xC0 | code >> 6);
      out += static_cast<char>(0x80 | (code & 0x3F));
    } else {
      out += static_cast<char>(0xE0 | code >> 12);
      out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
      out += static_cast<char>(0x80 | (code & 0x3F));
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

Json Json::parse(std::string_view text) { return JsonReader(text).whole(); }

namespace {
[[noreturn]] void wrong_kind(const char* wanted) { throw JsonError(std::string("a ") + wanted + " was expected"); }
}  // namespace

bool Json::boolean() const {
  if (kind_ != Kind::boolean) wrong_kind("boolean");
  return boolean_;
}
double Json::number() const {
  if (kind_ != Kind::number) wrong_kind("number");
  return number_;
}
const std::string& Json::string() const {
  if (kind_ != Kind::string) wrong_kind("string");
  return string_;
}
const std::vector<Json>& Json::array() const {
  if (kind_ != Kind::array) wrong_kind("list");
  return array_;
}
const std::map<std::string, Json>& Json::object() const {
  if (kind_ != Kind::object) wrong_kind("object");
  return object_;
}
const Json* Json::find(const std::string& name) const noexcept {
  const auto found = object_.find(name);
  return found == object_.end() ? nullptr : &found->second;
}
const Json& Json::at(const std::string& name) const {
  const Json* const found = find(name);
  if (found == nullptr) throw JsonError("'" + name + "' is missing");
  return *found;
}
double Json::number_or(const std::string& name, double otherwise) const {
  const Json* const found = find(name);
  return found == nullptr ? otherwise : found->number();
}
std::string Json::string_or(const std::string& name, const std::string& otherwise) const {
  const Json* const found = find(name);
  return found == nullptr ? otherwise : found->string();
}

}  // namespace cdmf::bench
