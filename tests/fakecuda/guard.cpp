// What autograd's engine and the operators ask of CUDA on a computer without it, answered without a driver:
// - a device guard that does nothing;
// - CUDA's hooks. They are one object, made by torch when first asked for; it has no members, so that giving it another
//   table of functions makes it another class's. The table fits this torch's headers, so it is compiled anew for another.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstring>

namespace {
using c10::Device, c10::DeviceIndex, c10::Stream;
constexpr auto CUDA = c10::DeviceType::CUDA;
constexpr DeviceIndex MOST = 8;
thread_local DeviceIndex current = 0;

struct Guard final : public c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return CUDA; }
  Device exchangeDevice(Device d) const override {
    const auto before = current;
    setDevice(d);
    return Device(CUDA, before);
  }
  Device getDevice() const override { return Device(CUDA, current); }
  void setDevice(Device d) const override { uncheckedSetDevice(d); }
  void uncheckedSetDevice(Device d) const noexcept override {
    if (d.has_index()) current = d.index();
  }
  Stream getStream(Device d) const override { return Stream(Stream::DEFAULT, d); }
  Stream getDefaultStream(Device d) const override { return Stream(Stream::DEFAULT, d); }
  Stream getNewStream(Device d, int) const override { return Stream(Stream::DEFAULT, d); }
  Stream exchangeStream(Stream s) const override { return Stream(Stream::DEFAULT, s.device()); }
  DeviceIndex deviceCount() const noexcept override { return MOST; }
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override {}
  void synchronizeDevice(const DeviceIndex) const override {}
  void record(void**, const Stream&, const DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override {}
  void destroyEvent(void*, const DeviceIndex) const noexcept override {}
};

struct Hooks final : public at::CUDAHooksInterface {
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return false; }
  bool hasCUDA() const override { return true; }
  bool hasCUDART() const override { return true; }
  bool hasCuDNN() const override { return true; }
  bool compiledWithCuDNN() const override { return true; }
  long versionCuDNN() const override { return 91000; }
  double batchnormMinEpsilonCuDNN() const override { return 0.0; }
  DeviceIndex deviceCount() const override { return MOST; }
  DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(DeviceIndex d) const override { current = d; }
};
}  // namespace

// Exchanges CUDA's hooks and these: once to begin, once more to end.
extern "C" void fakecuda_exchange_hooks() {
  static c10::impl::DeviceGuardImplRegistrar registrar(CUDA, new Guard());
  static void* table = [] { void* own; std::memcpy(&own, static_cast<const void*>(new Hooks()), sizeof own); return own; }();
  void* theirs = const_cast<void*>(static_cast<const void*>(&at::detail::getCUDAHooks()));
  void* before;
  std::memcpy(&before, theirs, sizeof before);
  std::memcpy(theirs, &table, sizeof table);
  table = before;
}

extern "C" int fakecuda_current_device() { return current; }
extern "C" void fakecuda_set_device(int device) { current = static_cast<DeviceIndex>(device); }
