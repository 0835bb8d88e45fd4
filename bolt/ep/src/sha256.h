// SHA-256 (FIPS 180-4).
#ifndef BOLT_EP_SHA256_H_
#define BOLT_EP_SHA256_H_

#include <cstddef>
#include <string>

namespace bolt {

// The digest of `bytes` bytes as 64 lower-case hex digits.
std::string Sha256(const void* data, size_t bytes);

// The same by portable code only, whatever the CPU has.
std::string Sha256Portable(const void* data, size_t bytes);

}  // namespace bolt

#endif  // BOLT_EP_SHA256_H_
