#include "registry/cuda_device.h"

#include <dlfcn.h>

#include <filesystem>
#include <vector>

#include "backends/cuda/plugin.h"
#include "base/check.h"
#include "base/version.h"
#include "collectives/launch.h"

namespace switchyard {
namespace {

// The plugin, or why there is none. Never closed: its kernels live as long as the program may.
struct Opened {
  const CudaPlugin* plugin = nullptr;
  DeviceTrouble trouble;
};

std::vector<std::filesystem::path> places_of_plugin() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path folder = error ? "." : program.parent_path();
  return {folder / kCudaPluginFile,
          (folder / SWITCHYARD_PLUGIN_FOLDER / kCudaPluginFile).lexically_normal()};
}

Opened open_plugin() {
  std::string searched;
  for (const auto& place : places_of_plugin()) {
    searched += (searched.empty() ? "" : ", ") + place.string();
    if (!std::filesystem::exists(place)) continue;
    void* library = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      return {.trouble = {std::string("the CUDA plugin doesn't load: ") + dlerror(),
                          "install the libraries of CUDA that it names, or set device: auto"}};
    }
    using Entry = const CudaPlugin* (*)();
    const auto entry = reinterpret_cast<Entry>(dlsym(library, kCudaPluginSymbol));
    const CudaPlugin* plugin = entry == nullptr ? nullptr : entry();
    if (plugin == nullptr || std::string(plugin->version) != kVersion) {
      return {.trouble = {place.string() + " is of another version than this program",
                          "install both from one build, or set device: auto"}};
    }
    return {.plugin = plugin, .trouble = {}};
  }
  return {.trouble = {"the CUDA plugin is missing; searched: " + searched,
                      "install it beside the program, or set device: auto"}};
}

const Opened& opened() {
  static const Opened opened = open_plugin();
  return opened;
}

bool has_driver() {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  return driver != nullptr;
}

}  // namespace

DeviceTrouble find_cuda_trouble() {
  const CudaPlugin* plugin = opened().plugin;
  if (plugin == nullptr) return opened().trouble;
  std::string reason;
  if (plugin->count_devices(reason) > 0) return {};
  return {"no GPU answers: " + reason,
          "install NVIDIA's driver (nvidia-smi then lists the GPUs), or set device: auto"};
}

bool cuda_answers() {
  static const bool answers = has_driver() && find_cuda_trouble().what.empty();
  return answers;
}

std::string describe_cuda() {
  const DeviceTrouble trouble = find_cuda_trouble();
  return trouble.what.empty() ? opened().plugin->describe() : trouble.what;
}

std::unique_ptr<Kernels> make_cuda() {
  const CudaPlugin* plugin = opened().plugin;
  SWITCHYARD_CHECK(plugin != nullptr, opened().trouble.what);
  std::string reason;
  const int devices = plugin->count_devices(reason), local_rank = rank_on_this_node();
  if (local_rank >= devices) {
    throw ConfigError("rank " + std::to_string(local_rank) + " of this machine has no GPU of its " +
                          "own; GPUs here: " + std::to_string(devices),
                      "", "start one rank for each GPU");
  }
  return plugin->make_kernels(local_rank, current_rank());
}

std::unique_ptr<Collectives> make_cuda_collectives(Collectives& host) {
  return opened().plugin->make_collectives(host);
}

}  // namespace switchyard
