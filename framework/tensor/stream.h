// An in-order queue of work on a device. The host's stream runs everything inline, so that waiting
// on it returns at once; a device's or the communication thread's may lag behind the caller.
#pragma once

#include <memory>

namespace switchyard {

// A point in a stream's queue.
class Event {
 public:
  virtual ~Event() = default;
  // Blocks the caller until the point is reached; rethrows an error of the work before it.
  virtual void wait() = 0;
};

class Stream {
 public:
  virtual ~Stream() = default;
  // The point after everything enqueued so far.
  virtual std::unique_ptr<Event> record() = 0;
  // Later work on this stream starts only after the event.
  virtual void wait(Event& event) = 0;
  // Blocks the caller until the queue is empty; rethrows an error of the work.
  virtual void synchronize() = 0;
};

// Runs what is enqueued inside the enqueuing call.
class InlineStream : public Stream {
 public:
  std::unique_ptr<Event> record() override { return std::make_unique<Reached>(); }
  void wait(Event& event) override { event.wait(); }
  void synchronize() override {}

 private:
  struct Reached : Event {
    void wait() override {}
  };
};

}  // namespace switchyard
