#include "json.h"

#include <cerrno>
#include <cstdlib>
#include <limits>

#include "status.h"

namespace bolt::json {
namespace {

constexpr int kMaxDepth = 64;
constexpr char32_t kBadCodePoint = 0xffffffff;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

void AppendUtf8(char32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
    return;
  }
  const int extra = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  constexpr unsigned char kLead[] = {0, 0xc0, 0xe0, 0xf0};
  out->push_back(static_cast<char>(kLead[extra] | (c >> (6 * extra))));
  for (int i = extra - 1; i >= 0; --i) out->push_back(static_cast<char>(0x80 | ((c >> (6 * i)) & 0x3f)));
}

// Bytes of the UTF-8 sequence at the start of `text`; 0 when it is not valid (Unicode table 3-7).
size_t Utf8Length(std::string_view text) {
  struct Row {
    unsigned char lead_first, lead_last, second_first, second_last;
    size_t length;
  };
  constexpr Row kRows[] = {
      {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
      {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
      {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
  };
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return 1;
  for (const Row& row : kRows) {
    if (byte(0) < row.lead_first || byte(0) > row.lead_last) continue;
    if (text.size() < row.length || byte(1) < row.second_first || byte(1) > row.second_last) return 0;
    for (size_t i = 2; i < row.length; ++i) {
      if ((byte(i) & 0xc0) != 0x80) return 0;
    }
    return row.length;
  }
  return 0;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Value Document() {
    Value value = Element(0);
    if (pos_ != text_.size()) Throw("text after the end of the document");
    return value;
  }

 private:
  [[noreturn]] void Throw(const char* what) const {
    throw Error("not valid JSON at byte " + std::to_string(pos_) + ": " + what);
  }
  char Peek() const { return pos_ < text_.size() ? text_[pos_] : '\0'; }
  bool Eat(char c) {
    if (Peek() != c || pos_ == text_.size()) return false;
    ++pos_;
    return true;
  }
  void Expect(char c, const char* what) {
    if (!Eat(c)) Throw(what);
  }
  void SkipSpace() {
    while (pos_ < text_.size() && std::string_view(" \t\r\n").find(text_[pos_]) != std::string_view::npos)
      ++pos_;
  }

  Value Element(int depth) {
    if (depth > kMaxDepth) Throw("nesting is too deep");
    SkipSpace();
    Value value = Bare(depth);
    SkipSpace();
    return value;
  }

  Value Bare(int depth) {
    switch (Peek()) {
      case '{':
        return Object(depth);
      case '[':
        return Array(depth);
      case '"':
        return Value(String());
      case 't':
        return Literal("true", Value(true));
      case 'f':
        return Literal("false", Value(false));
      case 'n':
        return Literal("null", Value());
      default:
        return Number();
    }
  }

  Value Literal(std::string_view word, Value value) {
    if (text_.substr(pos_, word.size()) != word) Throw("unknown word");
    pos_ += word.size();
    return value;
  }

  Value Object(int depth) {
    Value::Object members;
    ++pos_;
    SkipSpace();
    if (Eat('}')) return Value(std::move(members));
    do {
      SkipSpace();
      if (Peek() != '"') Throw("expected a member name");
      std::string key = String();
      SkipSpace();
      Expect(':', "expected ':'");
      if (!members.emplace(std::move(key), Element(depth + 1)).second) Throw("the same member twice");
    } while (Eat(','));
    Expect('}', "expected ',' or '}'");
    return Value(std::move(members));
  }

  Value Array(int depth) {
    Value::Array items;
    ++pos_;
    SkipSpace();
    if (Eat(']')) return Value(std::move(items));
    do items.push_back(Element(depth + 1));
    while (Eat(','));
    Expect(']', "expected ',' or ']'");
    return Value(std::move(items));
  }

  std::string String() {
    std::string out;
    ++pos_;
    while (!Eat('"')) {
      if (pos_ == text_.size()) Throw("a string does not end");
      if (Eat('\\')) {
        Escape(&out);
      } else {
        Plain(&out);
      }
    }
    return out;
  }

  void Plain(std::string* out) {
    if (static_cast<unsigned char>(text_[pos_]) < 0x20) Throw("control character in a string");
    const size_t length = Utf8Length(text_.substr(pos_));
    if (length == 0) Throw("invalid UTF-8");
    out->append(text_.substr(pos_, length));
    pos_ += length;
  }

  void Escape(std::string* out) {
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kValues = "\"\\/\b\f\n\r\t";
    if (Eat('u')) {
      AppendUtf8(CodePoint(), out);
      return;
    }
    const size_t i = pos_ < text_.size() ? kNames.find(text_[pos_]) : std::string_view::npos;
    if (i == std::string_view::npos) Throw("unknown escape");
    out->push_back(kValues[i]);
    ++pos_;
  }

  // The code point of "XXXX" or of the surrogate pair "XXXX\uXXXX".
  char32_t CodePoint() {
    const char32_t high = Hex4();
    if (high < 0xd800 || high > 0xdfff) return high;
    if (high > 0xdbff || !Eat('\\') || !Eat('u')) Throw("lone surrogate");
    const char32_t low = Hex4();
    if (low < 0xdc00 || low > 0xdfff) Throw("lone surrogate");
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
  }

  char32_t Hex4() {
    char32_t value = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = Peek();
      const char32_t digit = IsDigit(c)             ? static_cast<char32_t>(c - '0')
                             : c >= 'a' && c <= 'f' ? static_cast<char32_t>(c - 'a' + 10)
                             : c >= 'A' && c <= 'F' ? static_cast<char32_t>(c - 'A' + 10)
                                                    : kBadCodePoint;
      if (digit == kBadCodePoint) Throw("expected four hex digits");
      value = value * 16 + digit;
      ++pos_;
    }
    return value;
  }

  void Digits() {
    if (!IsDigit(Peek())) Throw("expected a value");
    while (IsDigit(Peek())) ++pos_;
  }

  Value Number() {
    const size_t start = pos_;
    Eat('-');
    if (!Eat('0')) Digits();
    const size_t integer_end = pos_;
    if (Eat('.')) Digits();
    if (Eat('e') || Eat('E')) {
      if (!Eat('+')) Eat('-');
      Digits();
    }
    const std::string text(text_.substr(start, pos_ - start));
    errno = 0;
    if (pos_ == integer_end) {
      const long long value = std::strtoll(text.c_str(), nullptr, 10);
      if (errno == ERANGE) Throw("integer out of range");
      return Value(static_cast<int64_t>(value));
    }
    return Value(std::strtod(text.c_str(), nullptr));
  }

  std::string_view text_;
  size_t pos_ = 0;
};

}  // namespace

template <class T>
const T& Value::As(const char* type, std::string_view where) const {
  const T* value = std::get_if<T>(&data_);
  if (value == nullptr) throw Error(std::string(where) + " is not " + type);
  return *value;
}

const std::string& Value::String(std::string_view where) const { return As<std::string>("a string", where); }
const Value::Array& Value::Items(std::string_view where) const { return As<Array>("an array", where); }
const Value::Object& Value::Members(std::string_view where) const { return As<Object>("an object", where); }
int64_t Value::Int(std::string_view where) const { return As<int64_t>("an integer", where); }

uint64_t Value::Size(std::string_view where) const {
  const int64_t value = Int(where);
  if (value < 0) throw Error(std::string(where) + " is negative");
  return static_cast<uint64_t>(value);
}

const Value& Value::At(std::string_view key, std::string_view where) const {
  const Object& members = Members(where);
  const auto it = members.find(key);
  if (it == members.end()) throw Error(std::string(where) + " has no \"" + std::string(key) + "\"");
  return it->second;
}

Value Parse(std::string_view text) { return Parser(text).Document(); }

}  // namespace bolt::json
