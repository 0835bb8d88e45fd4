// The package that the library lies in.
#ifndef BOLT_EP_PACKAGE_H_
#define BOLT_EP_PACKAGE_H_

namespace bolt {

// The kinds of devices that sessions may be made for.
struct Kinds {
  bool cpu = true;
  bool gpu = true;
};

// Those that the package beside this library has variants for; all when there is no package.
Kinds KindsOfPackage() noexcept;

}  // namespace bolt

#endif  // BOLT_EP_PACKAGE_H_
