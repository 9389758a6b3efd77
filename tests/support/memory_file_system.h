// A file system in memory. It counts nothing as being on the disk that wasn't synced, and shows
// every disk that a crash between two calls can leave behind: file contents are there up to the
// last sync of the file at least, names as of the last sync of their directory; what came later
// is there, isn't, or is in part.
#pragma once

#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/check.h"
#include "safetensors/file_system.h"

namespace switchyard {

class MemoryFileSystem : public FileSystem {
 public:
  using Path = std::filesystem::path;

  MemoryFileSystem() : nodes_(1) { nodes_[0].is_directory = true; }
  // The files as they are, without a record.
  MemoryFileSystem(const MemoryFileSystem& other) : nodes_(other.nodes_) {}

  // The bytes of a file, to be changed; the path must be one.
  std::string& bytes(const Path& path) {
    const auto node = find(path);
    SWITCHYARD_CHECK(node && !at(*node).is_directory, path.string());
    return at(*node).data;
  }

  // From here on changes are recorded; all that is there is on the disk.
  void start_recording() {
    disk_ = nodes_;
    changes_.clear();
  }
  // Changes and syncs since then.
  size_t recorded() const { return changes_.size(); }

  // Calls visit(disk) for the disks that a crash after the first `calls` recorded calls can leave;
  // never twice for the same in the lifetime of `seen`. Of the names of one directory that aren't
  // synced any beginning of the changes is taken, any single one or all but one, with none or all
  // of those of other directories; of bytes all, none, half, or zeros in their place.
  void for_each_crash(size_t calls, std::set<std::string>& seen,
                      const std::function<void(MemoryFileSystem& disk)>& visit) const {
    std::vector<Node> nodes = disk_;
    std::map<int, std::vector<const Change*>> pending;  // of names, by directory
    std::map<int, size_t> synced;                       // bytes of files that were written
    for (size_t i = 0; i < calls; ++i) play(changes_[i], nodes, pending, synced);
    for (const auto& taken : choices(pending)) {
      std::vector<Node> named = nodes;
      for (const auto& [directory, which] : taken) {
        for (size_t i = 0; i < which.size(); ++i) {
          if (which[i]) rename(*pending.at(directory)[i], named);
        }
      }
      for (const Unsynced unsynced :
           {Unsynced::kKept, Unsynced::kDropped, Unsynced::kHalf, Unsynced::kZeros}) {
        MemoryFileSystem disk;
        disk.nodes_ = named;
        for (const auto& [file, size] : synced) lose(disk.nodes_[index(file)].data, size, unsynced);
        if (seen.insert(disk.listing(0)).second) visit(disk);
      }
    }
  }

  int create(const Path& path, int& file) override {
    const std::lock_guard lock(mutex_);
    const auto directory = find(path.parent_path());
    if (!directory) return ENOENT;
    if (at(*directory).entries.contains(path.filename())) return EEXIST;
    const int node = add(false);
    name({{*directory, path.filename(), {}, node}});
    file = open_node(node);
    return 0;
  }

  int write(int file, const void* data, size_t size_bytes, size_t& written) override {
    const std::lock_guard lock(mutex_);
    const int node = open_.at(file);
    at(node).data.append(static_cast<const char*>(data), size_bytes);
    changes_.push_back({.kind = Change::kWrite,
                        .node = node,
                        .data = {static_cast<const char*>(data), size_bytes}});
    written = size_bytes;
    return 0;
  }

  int sync(int file) override {
    const std::lock_guard lock(mutex_);
    changes_.push_back({.kind = Change::kSync, .node = open_.at(file)});
    return 0;
  }

  void start_sync(int, uint64_t, uint64_t) noexcept override {}  // may do nothing

  int close(int file) override {
    const std::lock_guard lock(mutex_);
    return open_.erase(file) == 1 ? 0 : EBADF;
  }

  int open(const Path& path, Links, int& file, uint64_t& size_bytes) override {
    const std::lock_guard lock(mutex_);
    const auto node = find(path);
    if (!node) return ENOENT;
    if (at(*node).is_directory) return EISDIR;
    file = open_node(*node);
    size_bytes = at(*node).data.size();
    return 0;
  }

  int read(int file, uint64_t offset, void* data, size_t size_bytes, size_t& read) override {
    const std::lock_guard lock(mutex_);
    const std::string& all = at(open_.at(file)).data;
    read = offset < all.size() ? std::min<size_t>(size_bytes, all.size() - offset) : 0;
    if (read > 0) std::memcpy(data, all.data() + offset, read);
    return 0;
  }

  // Valid until the file is written to.
  int map(int file, uint64_t, const std::byte*& data) override {
    const std::lock_guard lock(mutex_);
    data = reinterpret_cast<const std::byte*>(at(open_.at(file)).data.data());
    return 0;
  }
  void unmap(const std::byte*, uint64_t) noexcept override {}

  int make_directory(const Path& path) override {
    const std::lock_guard lock(mutex_);
    if (find(path)) return EEXIST;
    const auto directory = find(path.parent_path());
    if (!directory) return ENOENT;
    name({{*directory, path.filename(), {}, add(true)}});
    return 0;
  }

  int sync_directory(const Path& path) override {
    const std::lock_guard lock(mutex_);
    const auto node = find(path);
    if (!node) return ENOENT;
    changes_.push_back({.kind = Change::kSyncDirectory, .node = *node});
    return 0;
  }

  int list(const Path& path, std::vector<std::string>& names) override {
    const std::lock_guard lock(mutex_);
    names.clear();
    const auto node = find(path);
    if (!node) return ENOENT;
    if (!at(*node).is_directory) return ENOTDIR;
    for (const auto& [entry, id] : at(*node).entries) names.push_back(entry);
    return 0;
  }

  int rename(const Path& from, const Path& to) override {
    const std::lock_guard lock(mutex_);
    const auto directory = find(to.parent_path()), node = find(from), there = find(to);
    SWITCHYARD_CHECK(directory && find(from.parent_path()) == directory, "moves ", from.string());
    if (!node) return ENOENT;
    if (there && at(*there).is_directory && !at(*there).entries.empty()) return ENOTEMPTY;
    name({{*directory, from.filename(), node, {}}, {*directory, to.filename(), there, node}});
    return 0;
  }

  int exchange(const Path& a, const Path& b) override {
    const std::lock_guard lock(mutex_);
    const auto directory = find(a.parent_path()), node_a = find(a), node_b = find(b);
    SWITCHYARD_CHECK(directory && find(b.parent_path()) == directory, "moves ", a.string());
    if (!node_a || !node_b) return ENOENT;
    name({{*directory, a.filename(), node_a, node_b}, {*directory, b.filename(), node_b, node_a}});
    return 0;
  }

  int remove(const Path& path) override {
    const std::lock_guard lock(mutex_);
    const auto directory = find(path.parent_path()), node = find(path);
    if (!node) return ENOENT;
    if (!at(*node).entries.empty()) return ENOTEMPTY;
    name({{*directory, path.filename(), node, {}}});
    return 0;
  }

 private:
  struct Node {
    bool is_directory = false;
    std::string data;
    std::map<std::string, int> entries;
  };
  // What a name in a directory stood for, and stands for now.
  struct Naming {
    int directory = 0;
    std::string name;
    std::optional<int> before, after;
  };
  struct Change {
    enum Kind : uint8_t { kName, kMake, kWrite, kSync, kSyncDirectory };
    Kind kind = kName;
    int node = 0;
    std::string data = {};
    std::vector<Naming> names = {};  // together or not at all, of one directory
    bool is_directory = false;
  };
  enum class Unsynced : uint8_t { kKept, kDropped, kHalf, kZeros };
  // Which changes of each directory have reached the disk.
  using Taken = std::map<int, std::vector<bool>>;

  static size_t index(int node) { return static_cast<size_t>(node); }
  Node& at(int node) { return nodes_[index(node)]; }

  std::optional<int> find(const Path& path) {
    int node = 0;
    for (const Path& part : path.relative_path()) {
      if (part.empty()) continue;
      const auto found = at(node).entries.find(part);
      if (found == at(node).entries.end()) return {};
      node = found->second;
    }
    return node;
  }

  int add(bool is_directory) {
    nodes_.emplace_back().is_directory = is_directory;
    const int node = static_cast<int>(nodes_.size()) - 1;
    changes_.push_back({.kind = Change::kMake, .node = node, .is_directory = is_directory});
    return node;
  }
  int open_node(int node) {
    open_[++last_file_] = node;
    return last_file_;
  }
  void name(std::vector<Naming> names) {
    changes_.push_back({.kind = Change::kName, .node = names[0].directory, .names = names});
    rename(changes_.back(), nodes_);
  }

  // Makes the change unless one that it rests on wasn't made.
  static void rename(const Change& change, std::vector<Node>& nodes) {
    auto& entries = nodes[index(change.node)].entries;
    for (const Naming& naming : change.names) {
      const auto found = entries.find(naming.name);
      const bool as_before = naming.before
                                 ? found != entries.end() && found->second == *naming.before
                                 : found == entries.end();
      if (!as_before) return;
    }
    for (const Naming& naming : change.names) {
      entries.erase(naming.name);
      if (naming.after) entries[naming.name] = *naming.after;
    }
  }

  static void play(const Change& change, std::vector<Node>& nodes,
                   std::map<int, std::vector<const Change*>>& pending,
                   std::map<int, size_t>& synced) {
    switch (change.kind) {
      case Change::kMake:
        nodes.resize(std::max(nodes.size(), index(change.node) + 1));
        nodes[index(change.node)].is_directory = change.is_directory;
        return;
      case Change::kWrite:
        synced.try_emplace(change.node, nodes[index(change.node)].data.size());
        nodes[index(change.node)].data += change.data;
        return;
      case Change::kSync:
        synced.erase(change.node);
        return;
      case Change::kName:
        pending[change.node].push_back(&change);
        return;
      case Change::kSyncDirectory:
        for (const Change* made : pending[change.node]) rename(*made, nodes);
        pending.erase(change.node);
        return;
    }
  }

  static std::vector<Taken> choices(const std::map<int, std::vector<const Change*>>& pending) {
    const auto everywhere = [&](bool made) {
      Taken taken;
      for (const auto& [directory, changes] : pending) {
        taken[directory].assign(changes.size(), made);
      }
      return taken;
    };
    std::vector<Taken> all = {everywhere(false), everywhere(true)};
    for (const auto& [directory, changes] : pending) {
      for (const bool others : {false, true}) {
        for (size_t i = 0; i < changes.size(); ++i) {
          Taken beginning = everywhere(others), one = beginning, all_but_one = beginning;
          for (size_t j = 0; j < changes.size(); ++j) {
            beginning[directory][j] = j < i;
            one[directory][j] = j == i;
            all_but_one[directory][j] = j != i;
          }
          all.insert(all.end(), {beginning, one, all_but_one});
        }
      }
    }
    return all;
  }

  static void lose(std::string& data, size_t synced, Unsynced unsynced) {
    const size_t beyond = data.size() - synced;
    if (unsynced == Unsynced::kDropped) data.resize(synced);
    if (unsynced == Unsynced::kHalf) data.resize(synced + beyond / 2);
    if (unsynced == Unsynced::kZeros) data.replace(synced, beyond, beyond, '\0');
  }

  // All that can be seen below a directory.
  std::string listing(int node) const {
    const Node& here = nodes_[index(node)];
    if (!here.is_directory) return digest_of(here.data).hex();
    std::string text = "{";
    for (const auto& [entry, below] : here.entries) text += entry + ":" + listing(below) + ";";
    return text + "}";
  }

  std::mutex mutex_;
  std::vector<Node> nodes_;  // the first is the root; none is ever taken away
  std::map<int, int> open_;  // nodes of open files
  int last_file_ = 2;
  std::vector<Node> disk_;  // when recording began
  std::vector<Change> changes_;
};

}  // namespace switchyard
