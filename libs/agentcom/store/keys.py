"""Every key of a namespace, spelled once.

All keys of a namespace share the hash tag ``{<namespace>}``, so a script touches one slot and a namespace lives on one
shard. ``include/keys.lua`` spells the same keys for the scripts; a test holds the two together. A name given from
outside (an agent id, a capability) only ever ends a key, so none can spell a key of another kind.

=====================  ======  ==========================================================================
key                    type    holds
=====================  ======  ==========================================================================
task:<id>              hash    one task; ``v`` is the schema version; removed when pruned
history:<id>           list    JSON entries, newest first, at most 50
queue:<signature>      zset    queued task ids; score: microseconds of queueing + priority * ageing window
sigs                   hash    signature of several capabilities with a non-empty queue -> where it is filed
sigs:<capability>      zset    signatures filed under this capability; score: that of the queue's head
status:<status>        zset    task ids; list order: priority * 2e15 + microseconds since September 2020
due:<kind>             zset    deadlines in ms. Of tasks: accept, progress, runtime, cancel, delayed,
                               expires, complete_by. Of agents: grace, unblock
finished, dead         zset    completed and cancelled tasks, dead letters; score: ms of the end
counters               hash    submitted and pruned tasks since the beginning
idem:<digest>:<agent>  hash    what an idempotency key was used for; expires
agent:<id>             hash    a connected agent, or one that still holds a task within its grace
tokens:<agent>         set     token digests of an agent
agents                 zset    connected agent ids, score 0 (lexical order for paging)
agents:seen            zset    connected agent ids; score: ms of the last sign of life
capabilities           hash    capability -> number of connected agents that have it
idle, idle:<cap>       zset    idle agents, all and by capability; score: ms of when they became idle
gateways               zset    gateway ids; score: ms of the lease's end
gateways:since         string  ms since when there has always been a gateway with a lease
gateway:<id>:agents    set     agents connected to a gateway
out:<gateway>          stream  what a gateway must push; trimmed by the gateway as it reads
events                 stream  every domain event, about the newest 100,000
match                  stream  requests to match, removed when served
tokens                 hash    SHA-256 of a token -> agent, role, prefix, time, as JSON
violations:<agent>     hash    disconnects for invalid frames and the end of the cooldown; expires
config                 hash    settings changed at run time
services               hash    <service>:<instance> -> last progress, as JSON
adminlog               stream  what operators and admins did, about the newest 10,000
rate:<lane>:<tier>:<i>  hash    token bucket of an identity, see include/rate.lua; expires when it is full again
rateviol:<identity>    hash    denials within a minute of the first; expires
ratelimited            zset    identities that were denied within the hour; score: ms of the last denial
raterules              hash    identity -> tier -> [capacity, rate] in millionths, as JSON
rateexempt             zset    identities without limits; score: ms of when they were listed
stats:<hour>           hash    counters of one hour since the epoch, see include/stats.lua; expires after 25 hours
agents:known           zset    agents that connected within 30 days; score: ms of the last connect or leave
mailseq                string  the number given to the latest message: microseconds since 1970, or one more
mailbox:<agent>        zset    JSON messages that wait for an agent; score: their number
mailboxes              zset    agents with a mailbox; score: at most the number of its oldest message
mailcursors            hash    agent -> number up to which broadcasts and posts reached its mailbox or its socket
broadcasts             stream  <number>-0: messages to everybody, about the newest ``mailbox_cap``
written                hash    gateway -> number up to which broadcasts and posts were written to all its sockets
message:<id>           hash    one message and its delivery state; removed with its place in ``messages``
messages               zset    ids of the newest messages; score: their number
replies:<id>           zset    ids of the answers to a message that are in ``messages``; score: their number
channels               zset    channel names, score 0 (lexical order for paging)
channel:<name>         hash    one channel; ``seq`` counts its posts, ``last`` is the number of the latest
channellog:<name>      stream  <seq>-0: the newest posts of a channel
subscribers:<name>     zset    agents that subscribed to a channel; score: the latest message's number by then
members:<name>         set     agents that may use a private channel
subscriptions:<agent>  zset    channel names, score 0; true only where ``subscribers`` has the agent, too
presence, revoked      pub/sub channels: presence events as JSON; agent ids whose tokens were revoked
configured             pub/sub channel: names of settings that changed at run time
=====================  ======  ==========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Spells the keys of one namespace."""

    namespace: str

    @property
    def root(self) -> str:
        return f"ac:{{{self.namespace}}}:"

    def task(self, task_id: str) -> str:
        return f"{self.root}task:{task_id}"

    def history(self, task_id: str) -> str:
        return f"{self.root}history:{task_id}"

    def queue(self, signature: str) -> str:
        return f"{self.root}queue:{signature}"

    def signatures(self, capability: str) -> str:
        return f"{self.root}sigs:{capability}"

    def filed(self) -> str:
        return f"{self.root}sigs"

    def status(self, status: str) -> str:
        return f"{self.root}status:{status}"

    def due(self, kind: str) -> str:
        return f"{self.root}due:{kind}"

    def finished(self) -> str:
        return f"{self.root}finished"

    def dead(self) -> str:
        return f"{self.root}dead"

    def counters(self) -> str:
        return f"{self.root}counters"

    def idempotency(self, submitter: str, digest: str) -> str:
        return f"{self.root}idem:{digest}:{submitter}"

    def agent(self, agent_id: str) -> str:
        return f"{self.root}agent:{agent_id}"

    def agents(self) -> str:
        return f"{self.root}agents"

    def seen(self) -> str:
        return f"{self.root}agents:seen"

    def capabilities(self) -> str:
        return f"{self.root}capabilities"

    def idle_any(self) -> str:
        return f"{self.root}idle"

    def idle(self, capability: str) -> str:
        return f"{self.root}idle:{capability}"

    def gateways(self) -> str:
        return f"{self.root}gateways"

    def gateways_since(self) -> str:
        return f"{self.root}gateways:since"

    def gateway_agents(self, gateway: str) -> str:
        return f"{self.root}gateway:{gateway}:agents"

    def outbox(self, gateway: str) -> str:
        return f"{self.root}out:{gateway}"

    def events(self) -> str:
        return f"{self.root}events"

    def match(self) -> str:
        return f"{self.root}match"

    def tokens(self) -> str:
        return f"{self.root}tokens"

    def agent_tokens(self, agent_id: str) -> str:
        return f"{self.root}tokens:{agent_id}"

    def violations(self, agent_id: str) -> str:
        return f"{self.root}violations:{agent_id}"

    def config(self) -> str:
        return f"{self.root}config"

    def services(self) -> str:
        return f"{self.root}services"

    def admin_log(self) -> str:
        return f"{self.root}adminlog"

    def bucket(self, lane: str, tier: str, identity: str) -> str:
        return f"{self.root}rate:{lane}:{tier}:{identity}"

    def rate_violations(self, identity: str) -> str:
        return f"{self.root}rateviol:{identity}"

    def rate_limited(self) -> str:
        return f"{self.root}ratelimited"

    def rate_rules(self) -> str:
        return f"{self.root}raterules"

    def rate_exempt(self) -> str:
        return f"{self.root}rateexempt"

    def stats(self, hour: str) -> str:
        return f"{self.root}stats:{hour}"

    def known_agents(self) -> str:
        return f"{self.root}agents:known"

    def config_channel(self) -> str:
        return f"{self.root}configured"

    def mail_seq(self) -> str:
        return f"{self.root}mailseq"

    def mailbox(self, agent_id: str) -> str:
        return f"{self.root}mailbox:{agent_id}"

    def mailboxes(self) -> str:
        return f"{self.root}mailboxes"

    def mail_cursors(self) -> str:
        return f"{self.root}mailcursors"

    def broadcasts(self) -> str:
        return f"{self.root}broadcasts"

    def written(self) -> str:
        return f"{self.root}written"

    def message(self, message_id: str) -> str:
        return f"{self.root}message:{message_id}"

    def messages(self) -> str:
        return f"{self.root}messages"

    def replies(self, message_id: str) -> str:
        return f"{self.root}replies:{message_id}"

    def channels(self) -> str:
        return f"{self.root}channels"

    def channel(self, name: str) -> str:
        return f"{self.root}channel:{name}"

    def channel_log(self, name: str) -> str:
        return f"{self.root}channellog:{name}"

    def subscribers(self, name: str) -> str:
        return f"{self.root}subscribers:{name}"

    def members(self, name: str) -> str:
        return f"{self.root}members:{name}"

    def subscriptions(self, agent_id: str) -> str:
        return f"{self.root}subscriptions:{agent_id}"

    def presence_channel(self) -> str:
        return f"{self.root}presence"

    def revoked_channel(self) -> str:
        return f"{self.root}revoked"

    def clock_shift(self) -> str:
        """What moves or stops the clock of tests; read only with ``shifted_clock``."""
        return f"{self.root}clock:shift"
