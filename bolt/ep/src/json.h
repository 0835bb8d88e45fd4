// A strict reader of JSON (RFC 8259) for manifests, which are untrusted input.
#ifndef BOLT_EP_JSON_H_
#define BOLT_EP_JSON_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace bolt::json {

// A JSON value. The accessors throw Error naming `where` when the value has another type.
class Value {
 public:
  using Array = std::vector<Value>;
  using Object = std::map<std::string, Value, std::less<>>;
  using Data = std::variant<std::nullptr_t, bool, int64_t, double, std::string, Array, Object>;

  Value() = default;
  explicit Value(Data data) : data_(std::move(data)) {}

  bool is_null() const noexcept { return std::holds_alternative<std::nullptr_t>(data_); }
  const std::string& String(std::string_view where) const;
  const Array& Items(std::string_view where) const;
  const Object& Members(std::string_view where) const;
  int64_t Int(std::string_view where) const;
  uint64_t Size(std::string_view where) const;  // an integer >= 0

  // Member `key` of an object; throws when it is missing.
  const Value& At(std::string_view key, std::string_view where) const;

 private:
  template <class T>
  const T& As(const char* type, std::string_view where) const;

  Data data_ = nullptr;
};

// Parses one document. Throws Error with the byte offset of the first thing that is not JSON: also of
// duplicate keys, text after the document, invalid UTF-8, and nesting deeper than 64.
Value Parse(std::string_view text);

}  // namespace bolt::json

#endif  // BOLT_EP_JSON_H_
