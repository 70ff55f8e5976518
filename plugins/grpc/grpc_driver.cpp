#include "grpc_driver.h"

#include <grpc/grpc.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/server_builder.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "credentials.h"

namespace cdmf::ipc::grpc_transport {
namespace {

// Blocks of one link that holds may keep: with them, the memory of a link stays bounded whatever a program holds.
constexpr unsigned kHeldBlocksMax = 16;

int milliseconds(std::chrono::nanoseconds time) {
  return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(time).count());
}

/// gRPC starts threads and descriptors with its first user and would end them, later and elsewhere, with its last one.
void keep_grpc() {
  static const bool kept = [] {
    grpc_init();
    return true;
  }();
  (void)kept;
}

/// A completion that the queue keeps to itself.
struct Unheard final : grpc::internal::CompletionQueueTag {
  bool FinalizeResult(void** /*tag*/, bool* /*ok*/) override { return false; }
};

std::string text_of(const grpc::string_ref& text) { return {text.data(), text.size()}; }

/// One value of the client's metadata, empty when it is not there.
std::string metadata_of(const grpc::ServerContext& context, const char* key) {
  const auto found = context.client_metadata().find(key);
  return found == context.client_metadata().end() ? std::string() : text_of(found->second);
}

}  // namespace

GrpcDriver::GrpcDriver(const DriverConfig& config, PluginHost host)
    : options_(config),
      detail_(std::string(options_.insecure ? "insecure" : "mutual TLS") + "; buffers of " +
              std::to_string(options_.send_bytes) + " and " + std::to_string(options_.receive_bytes) +
              " bytes per peer"),
      host_(host),
      agreed_frame_size_max_(options_.frame_size_max) {}

GrpcDriver::~GrpcDriver() { GrpcDriver::close(); }

// ---- Life -----------------------------------------------------------------------------------------------------------

cdmf_status GrpcDriver::open(ErrorText& error) {
  if (owner_ != -1) return error.fail(CDMF_ALREADY_INITIALIZED, 0, options_.address.target, " is open already");
  if (const auto status = check_tls_files(options_, error); status != CDMF_OK) return status;
  auto alarm = Alarm::make();
  if (alarm == nullptr) {
    return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, options_.address.target, ": no eventfd; raise `ulimit -n`");
  }
  keep_grpc();
  auto engine = std::make_unique<Engine>();
  if (options_.server) {
    if (const auto status = open_server(*engine, error); status != CDMF_OK) return status;
  } else {
    engine->queue = std::make_unique<grpc::CompletionQueue>();
  }
  {
    const std::lock_guard lock(mutex_);
    engine->pump = std::make_unique<Pump>(*engine->queue, &complete, options_.spin_budget);
    pump_ = engine->pump.get();
    engine_ = std::move(engine);
    alarm_ = std::move(alarm);
    closing_ = false;
    agreed_frame_size_max_ = options_.frame_size_max;
    owner_ = getpid();
  }
  if (options_.server) request_next();
  return CDMF_OK;
}

cdmf_status GrpcDriver::open_server(Engine& engine, ErrorText& error) const {
  if (const auto status = SocketFile::take(options_.address, engine.socket_file, error); status != CDMF_OK) {
    return status;
  }
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(options_.address.target, server_credentials(options_), &port);
  builder.RegisterAsyncGenericService(&engine.service);
  builder.SetMaxReceiveMessageSize(static_cast<int>(message_bytes_max(options_.frame_size_max)));
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // Else a second server would share the port in silence.
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 64);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 8 * 1024);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, milliseconds(options_.keepalive_interval));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, milliseconds(options_.keepalive_timeout));
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 900);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  auto queue = builder.AddCompletionQueue();
  engine.server = builder.BuildAndStart();
  if (engine.server == nullptr || port == 0) {
    queue->Shutdown();
    void* tag = nullptr;
    for (bool ok = false; queue->Next(&tag, &ok);) continue;
    return error.fail(CDMF_ENDPOINT_IN_USE, 0, options_.address.target,
                      ": cannot listen there; another program does, or it is no address of this machine");
  }
  engine.socket_file.restrict_access();
  engine.queue = std::move(queue);
  return CDMF_OK;
}

cdmf_status GrpcDriver::attach(std::uint64_t deadline, cdmf_peer& peer, ErrorText& error) {
  const std::string& target = options_.address.target;
  std::shared_ptr<Link> link;
  {
    const std::lock_guard lock(mutex_);
    if (engine_ == nullptr) return error.fail(CDMF_NOT_INITIALIZED, 0, target, " is not open");
    if (options_.server) return error.fail(CDMF_UNSUPPORTED, 0, target, " is a server: clients attach to it");
    if (!engine_->links.empty()) return error.fail(CDMF_ALREADY_INITIALIZED, 0, target, " has its server already");
    if (const auto status = check_directory(options_.address, error); status != CDMF_OK) return status;
    link = make_link();
  }
  grpc::ChannelArguments arguments;
  // A connection of its own for each attempt: shared ones would make the next attempt wait for their back-off.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, 8 * 1024);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, milliseconds(options_.keepalive_interval));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, milliseconds(options_.keepalive_timeout));
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // The server's frames may be larger than what this client asks for; what it allows is known only afterwards.
  arguments.SetMaxReceiveMessageSize(
      static_cast<int>(message_bytes_max(kDescription.max_message_size_limit + CDMF_FRAME_OVERHEAD_MAX)));
  if (!options_.tls_server_name.empty()) arguments.SetSslTargetNameOverride(options_.tls_server_name);
  link->call(grpc::CreateCustomChannel(target, client_credentials(options_), arguments), options_.endpoint);
  expect_progress();
  std::string problem;
  const auto status = link->await_answer(deadline, problem);
  if (status != CDMF_OK) return error.fail(status, 0, target, ": ", problem);
  peer = link->id();
  agreed_frame_size_max_ = link->frame_size_max();
  const std::lock_guard lock(mutex_);
  engine_->links.emplace(peer, std::move(link));
  receivable();
  return CDMF_OK;
}

cdmf_status GrpcDriver::disconnect(cdmf_peer peer, cdmf_status reason) {
  const auto link = find_link(peer);
  if (link == nullptr) return CDMF_NOT_CONNECTED;
  link->end(reason, options_.linger);
  return CDMF_OK;
}

void GrpcDriver::close() {
  const int owner = owner_.exchange(-1);
  if (owner == -1) return;
  if (owner != getpid()) {  // No lock: gRPC's thread may have held it when the process was forked.
    (void)engine_.release();
    return;
  }
  std::unique_lock lock(mutex_);
  closing_ = true;
  const auto all = engine_->all;
  engine_->pump->finish();
  lock.unlock();
  if (engine_->server != nullptr) {
    // Stops listening before anybody is told: who hears the goodbye may start the next server at once. grpc::Server
    // itself can only stop listening and wait in one step.
    static Unheard stopped;
    grpc_server_shutdown_and_notify(engine_->server->c_server(), engine_->queue->cq(), &stopped);
    engine_->socket_file.release();
  }
  for (const auto& [id, link] : all) link->end(CDMF_CONNECTION_CLOSED, options_.linger);
  // Links that do not end by themselves are cancelled after linger.
  if (engine_->server != nullptr) engine_->server->Shutdown(std::chrono::system_clock::now() + options_.linger);
  lock.lock();
  finished_.wait(lock, [this] { return engine_->all.empty(); });
  // burst_ and held_ stay, and open claims keep their links: their memory is promised to be valid.
  const auto engine = std::move(engine_);
  lock.unlock();
  engine->queue->Shutdown();
  engine->pump->join();
  pump_ = nullptr;
  alarm_.reset();
}

void GrpcDriver::describe(cdmf_info& info) {
  info.capabilities = kDescription.capabilities;
  if (options_.insecure) info.capabilities &= ~std::uint64_t{CDMF_CAP_ENCRYPTED};
  info.frame_size_max = agreed_frame_size_max_;
  info.buffer_bytes = options_.send_bytes + options_.receive_bytes;
  info.address = options_.address.target.c_str();
  info.detail = detail_.c_str();
}

// ---- What gRPC brings -----------------------------------------------------------------------------------------------

void GrpcDriver::complete(void* tag, bool ok) {
  const auto* const done = static_cast<Link::Tag*>(tag);
  done->link->complete(done->op, ok);
}

void GrpcDriver::receivable() {
  news_ = true;
  if (alarm_->ring()) pump_->woken();
}

/// Before a wait that only gRPC can end.
void GrpcDriver::expect_progress() {
  if (pump_ != nullptr) pump_->go_on();
}

void GrpcDriver::finished(cdmf_peer id) {
  std::shared_ptr<Link> last;
  const std::lock_guard lock(mutex_);
  const auto found = engine_->all.find(id);
  if (found == engine_->all.end()) return;
  last = std::move(found->second);
  engine_->all.erase(found);
  finished_.notify_all();
}

void GrpcDriver::called(Link& link) {
  std::string problem;
  const cdmf_status status = check_client(link, problem);
  if (status == CDMF_OK && link.context().method() == kHealthMethod) {
    link.answer_health();
  } else if (status != CDMF_OK) {
    host_.log(CDMF_LOG_WARNING, options_.address.target, ": refused ", link.context().peer(), ": ", problem);
    link.refuse(status, problem);
  } else {
    {
      const std::lock_guard lock(mutex_);
      engine_->links.emplace(link.id(), engine_->all.at(link.id()));
    }
    link.accept();
  }
  request_next();
}

cdmf_status GrpcDriver::check_client(Link& link, std::string& problem) {
  const grpc::GenericServerContext& context = link.context();
  const auto refuse = [&](cdmf_status status, std::string text) {
    problem = std::move(text);
    return status;
  };
  std::string names;
  if (!options_.insecure) {
    bool allowed = options_.allow_peers.empty();
    for (const char* const property : {"x509_common_name", "x509_subject_alternative_name"}) {
      for (const auto& name : context.auth_context()->FindPropertyValues(property)) {
        const std::string text = text_of(name);
        if (names.find(text) == names.npos) names += (names.empty() ? "" : ", ") + text;
        allowed |=
            std::find(options_.allow_peers.begin(), options_.allow_peers.end(), text) != options_.allow_peers.end();
      }
    }
    if (!allowed) return refuse(CDMF_PERMISSION_DENIED, "allow_peers of the server does not name " + names);
  }
  if (context.method() == kHealthMethod) return CDMF_OK;
  if (context.method() != kMethod) return refuse(CDMF_UNSUPPORTED, "no such method: " + context.method());
  const std::string version = metadata_of(context, kVersionKey);
  if (version != std::to_string(kWireVersion)) {
    return refuse(CDMF_VERSION_MISMATCH,
                  "the client speaks version " + version + ", the server " + std::to_string(kWireVersion));
  }
  if (metadata_of(context, kEndpointKey) != options_.endpoint) {
    return refuse(CDMF_ENDPOINT_NOT_FOUND, "the server has endpoint " + options_.endpoint + ", check 'endpoint'");
  }
  const std::string wanted = metadata_of(context, kFrameSizeKey);
  const auto bytes = wanted.size() > 18 ? 0 : std::strtoull(wanted.c_str(), nullptr, 10);
  if (bytes == 0) return refuse(CDMF_PROTOCOL_ERROR, "the client names no frame size");
  if (bytes > options_.frame_size_max) {
    return refuse(CDMF_INVALID_CONFIG, "the client wants max_message_size " +
                                           std::to_string(bytes - CDMF_FRAME_OVERHEAD_MAX) + ", the server allows " +
                                           std::to_string(options_.frame_size_max - CDMF_FRAME_OVERHEAD_MAX) +
                                           "; lower the one or raise the other");
  }
  const std::lock_guard lock(mutex_);
  if (closing_) return refuse(CDMF_ENDPOINT_NOT_FOUND, "the server is closing");
  if (engine_->links.size() >= options_.clients_max) {
    return refuse(CDMF_RESOURCE_EXHAUSTED,
                  "max_clients " + std::to_string(options_.clients_max) + " are connected; raise it on the server");
  }
  if (!names.empty()) host_.log(CDMF_LOG_INFO, options_.address.target, ": peer ", link.id(), " is ", names);
  return CDMF_OK;
}

void GrpcDriver::request_next() {
  const std::lock_guard lock(mutex_);
  if (closing_) return;
  make_link()->request(engine_->service, static_cast<grpc::ServerCompletionQueue&>(*engine_->queue));
}

// ---- Sending --------------------------------------------------------------------------------------------------------

cdmf_status GrpcDriver::claim(cdmf_peer peer, std::size_t size, cdmf_loan& loan) {
  const auto link = find_link(peer);
  return link == nullptr ? CDMF_NOT_CONNECTED : link->claim(size, loan);
}

cdmf_status GrpcDriver::commit(const cdmf_loan& loan, std::size_t size, bool flush) {
  return Link::commit(loan, size, flush);
}

void GrpcDriver::abort(const cdmf_loan& loan) { Link::abort(loan); }

cdmf_status GrpcDriver::flush(cdmf_peer peer, std::uint64_t deadline) {
  if (peer != CDMF_NO_PEER) {
    const auto link = find_link(peer);
    if (link == nullptr) return CDMF_NOT_CONNECTED;
    if (deadline != kNoWait) expect_progress();
    return link->flush(deadline);
  }
  std::vector<std::shared_ptr<Link>> all;
  {
    const std::lock_guard lock(mutex_);
    if (engine_ == nullptr) return CDMF_NOT_INITIALIZED;
    for (const auto& [id, link] : engine_->links) all.push_back(link);
  }
  if (deadline != kNoWait) expect_progress();
  cdmf_status result = CDMF_OK;
  for (const auto& link : all) {
    const cdmf_status status = link->flush(deadline);
    // A link that ended reports what it lost with its PEER_DISCONNECTED.
    if (status == CDMF_BUFFER_FULL || status == CDMF_TIMEOUT) result = status;
  }
  return result;
}

cdmf_status GrpcDriver::await_space(cdmf_peer peer, std::size_t size, std::uint64_t deadline) {
  const auto link = find_link(peer);
  if (link == nullptr) return CDMF_NOT_CONNECTED;
  expect_progress();
  const cdmf_status status = link->await_space(size, deadline, interrupts_, interrupts_seen_sending_.load());
  if (status == CDMF_INTERRUPTED) interrupts_seen_sending_.store(interrupts_.load());
  return status;
}

// ---- Receiving ------------------------------------------------------------------------------------------------------

std::size_t GrpcDriver::receive_burst(cdmf_view* views, std::size_t capacity) {
  const std::lock_guard lock(mutex_);
  if (engine_ == nullptr) return 0;
  auto& links = engine_->links;
  ++bursts_;
  std::size_t count = 0;
  // A share of the burst per link and turn: nobody can crowd out the others.
  for (std::size_t idle = 0; count < capacity && idle < links.size();) {
    auto turn = links.upper_bound(last_served_);
    if (turn == links.end()) turn = links.begin();
    last_served_ = turn->first;
    const std::size_t share = std::max<std::size_t>(1, capacity / links.size());
    const std::size_t before = count;
    for (std::size_t i = 0; i < share && count < capacity; ++i) {
      std::shared_ptr<Block> block;
      if (!turn->second->next(views[count], block, bursts_)) break;
      cdmf_view& view = views[count++];
      if (block != nullptr) {
        if (burst_.empty() || burst_.back().block != block) burst_.push_back({std::move(block), view.peer});
        view.token = burst_.size() - 1;
      }
      if (view.kind != CDMF_VIEW_PEER_DISCONNECTED) continue;
      if (turn->second->problem()[0] != '\0') {
        host_.log(CDMF_LOG_WARNING, options_.address.target, ": peer ", view.peer, " sent ", turn->second->problem(),
                  "; it is disconnected");
      }
      links.erase(turn);
      break;
    }
    idle = count == before ? idle + 1 : 0;
  }
  return count;
}

void GrpcDriver::release_burst() { burst_.clear(); }

cdmf_status GrpcDriver::hold(cdmf_peer peer, std::uint64_t token, std::uint64_t& held) {
  if (token >= burst_.size() || burst_[token].peer != peer) return CDMF_INVALID_ARGUMENT;
  const std::shared_ptr<Block>& block = burst_[token].block;
  const std::lock_guard lock(mutex_);
  if (block->holds == 0) {
    unsigned& blocks = held_blocks_[peer];
    if (blocks >= kHeldBlocksMax) return CDMF_RESOURCE_EXHAUSTED;
    ++blocks;
  }
  ++block->holds;
  held = ++last_held_;
  held_.emplace(held, Owned{block, peer});
  return CDMF_OK;
}

void GrpcDriver::unhold(std::uint64_t held) {
  const std::lock_guard lock(mutex_);
  const auto found = held_.find(held);
  if (found == held_.end()) return;
  const auto& [block, peer] = found->second;
  if (--block->holds == 0) {
    const auto blocks = held_blocks_.find(peer);
    if (--blocks->second == 0) held_blocks_.erase(blocks);
  }
  held_.erase(found);
}

cdmf_status GrpcDriver::await_messages(std::uint64_t deadline) {
  if (alarm_ == nullptr) return CDMF_NOT_INITIALIZED;
  alarm_->disarm();
  bool come = false;
  news_ = true;  // What was there before the last burst ended may be there still.
  pump_->drive(deadline, [&] {
    if (interrupts_.load() != interrupts_seen_receiving_) return true;
    if (!news_.load(std::memory_order_relaxed) || !news_.exchange(false)) return false;
    const std::lock_guard lock(mutex_);
    return come = any_receivable();
  });
  if (come) return CDMF_OK;
  for (;;) {
    const bool ready = arm() == CDMF_READY;
    // After arm(), which empties the descriptor: an interrupt() before that is seen here, a later one ends poll().
    const std::uint64_t interrupts = interrupts_.load();
    if (interrupts != std::exchange(interrupts_seen_receiving_, interrupts)) return CDMF_INTERRUPTED;
    if (ready) return CDMF_OK;
    pollfd wait{alarm_->fd(), POLLIN, 0};
    pump_->sleeping(true);
    // What came since arm() has found nobody asleep; the thread goes on driving then.
    const bool woken = poll(&wait, 1, poll_timeout_ms(deadline)) != 0;
    pump_->sleeping(false);
    if (!woken && (deadline == kNoWait || monotonic_now_ns() >= deadline)) return CDMF_TIMEOUT;
  }
}

int GrpcDriver::poll_fd() {
  const std::lock_guard lock(mutex_);
  return alarm_ == nullptr ? -1 : alarm_->fd();
}

cdmf_arm_result GrpcDriver::arm() {
  const std::lock_guard lock(mutex_);
  if (engine_ == nullptr) return CDMF_READY;
  alarm_->arm();  // Before looking: see Alarm, edge ASLEEP.
  return any_receivable() ? CDMF_READY : CDMF_ARMED;
}

/// Under mutex_.
bool GrpcDriver::any_receivable() const {
  return std::any_of(engine_->links.begin(), engine_->links.end(),
                     [](const auto& one) { return one.second->receivable(); });
}

void GrpcDriver::interrupt() {
  const std::lock_guard lock(mutex_);
  ++interrupts_;
  if (engine_ == nullptr) return;
  alarm_->ring_always();
  for (const auto& [id, link] : engine_->links) link->wake_waiters();
}

// ---- Helpers --------------------------------------------------------------------------------------------------------

std::shared_ptr<Link> GrpcDriver::find_link(cdmf_peer peer) {
  const std::lock_guard lock(mutex_);
  if (engine_ == nullptr) return nullptr;
  const auto found = engine_->links.find(peer);
  return found == engine_->links.end() ? nullptr : found->second;
}

/// Under mutex_.
std::shared_ptr<Link> GrpcDriver::make_link() {
  const Link::Limits limits{options_.frame_size_max, options_.send_bytes, options_.receive_bytes};
  LinkEvents& events = *this;
  auto link = std::make_shared<Link>(++last_peer_, limits, events, *engine_->queue);
  engine_->all.emplace(link->id(), link);
  return link;
}

}  // namespace cdmf::ipc::grpc_transport
