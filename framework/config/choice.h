// A section of the config whose `type` names a row of a table, and whose other keys are that row's
// options: `router: {type: switch, jitter: 0.01}`. The tables come from registry/; config/ doesn't
// know what a router or an optimizer is.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"

namespace switchyard {

class Fields;
struct Config;

// The options of one type. Derive from OptionsOf, below.
class Options {
 public:
  virtual ~Options() = default;
  virtual void describe(Fields& fields) = 0;
  virtual std::unique_ptr<Options> clone() const = 0;
};

// struct SwitchOptions : OptionsOf<SwitchOptions> {
//   double jitter = 0.01;
//   void describe(Fields& f) override { f.real("jitter", jitter, {0.0, 0.5}, "ratio", "..."); }
// };
//   Base  Options, or a struct derived from it that holds what several types share
template <typename Derived, typename Base = Options>
class OptionsOf : public Base {
 public:
  std::unique_ptr<Options> clone() const override {
    return std::make_unique<Derived>(static_cast<const Derived&>(*this));
  }
};

// What the config holds: the chosen type and its options. `options` is null only in a Config that
// was default-constructed and not read; load_config always fills it.
struct Choice {
  std::string type;
  std::unique_ptr<Options> options;

  Choice() = default;
  explicit Choice(std::string chosen, std::unique_ptr<Options> with = nullptr)
      : type(std::move(chosen)), options(std::move(with)) {}
  Choice(const Choice& other)
      : type(other.type), options(other.options ? other.options->clone() : nullptr) {}
  Choice& operator=(const Choice& other) {
    Choice copy(other);
    *this = std::move(copy);
    return *this;
  }
  Choice(Choice&&) = default;
  Choice& operator=(Choice&&) = default;

  // The options as the type that the row of `type` makes.
  template <typename T>
  const T& as() const {
    const T* typed = dynamic_cast<const T*>(options.get());
    SWITCHYARD_CHECK(typed != nullptr, "options of '", type, "' are of another type");
    return *typed;
  }
};

struct ChoiceRow {
  std::string name;     // as `type` names it
  std::string meaning;  // one line
  // Options with their default values. Empty where only the name is chosen (model.type).
  std::function<std::unique_ptr<Options>()> make;
  // Rules that need the rest of the config; throws ConfigError. `path` is the section's, such as
  // "moe.encoder.router". May be empty.
  std::function<void(const Options& options, const Config& config, const std::string& path)> check;
};

// The tables by kind: "router", "optimizer", "schedule", "model".
class ChoiceTables {
 public:
  ChoiceTables() = default;
  explicit ChoiceTables(std::map<std::string, std::vector<ChoiceRow>> kinds)
      : kinds_(std::move(kinds)) {}

  // SWITCHYARD_CHECKs that the kind exists.
  const std::vector<ChoiceRow>& rows(const std::string& kind) const;
  // The row of that name; null if there is none.
  const ChoiceRow* find(const std::string& kind, const std::string& name) const;

 private:
  std::map<std::string, std::vector<ChoiceRow>> kinds_;
};

}  // namespace switchyard
