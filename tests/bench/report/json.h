#pragma once
// bench/report/json.h: reads JSON (RFC 8259), as report.json is. Small inputs of our own making, so no effort is made
// to be fast; whatever is not JSON is refused with its place.
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace cdmf::bench {

class JsonError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A value. Asking for what it is not throws JsonError, with the name of what was asked for where there is one.
class Json {
 public:
  enum class Kind { null, boolean, number, string, array, object };

  /// throws  JsonError, "line 3: ..."; also when nested deeper than 100 or when anything follows the value.
  [[nodiscard]] static Json parse(std::string_view text);

  [[nodiscard]] Kind kind() const noexcept { return kind_; }
  [[nodiscard]] bool boolean() const;
  [[nodiscard]] double number() const;
  [[nodiscard]] const std::string& string() const;
  [[nodiscard]] const std::vector<Json>& array() const;
  [[nodiscard]] const std::map<std::string, Json>& object() const;
  /// A member of an object; throws when it is not there.
  [[nodiscard]] const Json& at(const std::string& name) const;
  /// The same, or nullptr when this is no object or has no such member.
  [[nodiscard]] const Json* find(const std::string& name) const noexcept;
  [[nodiscard]] double number_or(const std::string& name, double otherwise) const;
  [[nodiscard]] std::string string_or(const std::string& name, const std::string& otherwise) const;

 private:
  friend class JsonReader;
  Kind kind_ = Kind::null;
  bool boolean_ = false;
  double number_ = 0;
  std::string string_;
  std::vector<Json> array_;
  std::map<std::string, Json> object_;
};

}  // namespace cdmf::bench
