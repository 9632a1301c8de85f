-- Every key the scripts touch, spelled once. The same names as agentcom/store/keys.py; a test holds them together.
local root = KEYS[1]
local function task_key(id) return root .. 'task:' .. id end
local function history_key(id) return root .. 'history:' .. id end
local function queue_key(signature) return root .. 'queue:' .. signature end
local function signatures_key(capability) return root .. 'sigs:' .. capability end
local function filed_key() return root .. 'sigs' end
local function status_key(status) return root .. 'status:' .. status end
local function due_key(kind) return root .. 'due:' .. kind end
local function finished_key() return root .. 'finished' end
local function dead_key() return root .. 'dead' end
local function counters_key() return root .. 'counters' end
local function idempotency_key(submitter, digest) return root .. 'idem:' .. digest .. ':' .. submitter end
local function agent_key(id) return root .. 'agent:' .. id end
local function agents_key() return root .. 'agents' end
local function seen_key() return root .. 'agents:seen' end
local function capabilities_key() return root .. 'capabilities' end
local function idle_any_key() return root .. 'idle' end
local function idle_key(capability) return root .. 'idle:' .. capability end
local function gateways_key() return root .. 'gateways' end
local function gateways_since_key() return root .. 'gateways:since' end
local function gateway_agents_key(id) return root .. 'gateway:' .. id .. ':agents' end
local function outbox_key(gateway) return root .. 'out:' .. gateway end
local function events_key() return root .. 'events' end
local function match_key() return root .. 'match' end
local function tokens_key() return root .. 'tokens' end
local function agent_tokens_key(id) return root .. 'tokens:' .. id end
local function violations_key(id) return root .. 'violations:' .. id end
local function config_key() return root .. 'config' end
local function admin_log_key() return root .. 'adminlog' end
local function bucket_key(lane, tier, identity) return root .. 'rate:' .. lane .. ':' .. tier .. ':' .. identity end
local function rate_violations_key(identity) return root .. 'rateviol:' .. identity end
local function rate_limited_key() return root .. 'ratelimited' end
local function rate_rules_key() return root .. 'raterules' end
local function rate_exempt_key() return root .. 'rateexempt' end
local function stats_key(hour) return root .. 'stats:' .. hour end
local function known_agents_key() return root .. 'agents:known' end
local function config_channel() return root .. 'configured' end
local function mail_seq_key() return root .. 'mailseq' end
local function mailbox_key(agent_id) return root .. 'mailbox:' .. agent_id end
local function mailboxes_key() return root .. 'mailboxes' end
local function mail_cursors_key() return root .. 'mailcursors' end
local function broadcasts_key() return root .. 'broadcasts' end
local function written_key() return root .. 'written' end
local function message_key(id) return root .. 'message:' .. id end
local function messages_key() return root .. 'messages' end
local function replies_key(id) return root .. 'replies:' .. id end
local function channels_key() return root .. 'channels' end
local function channel_key(name) return root .. 'channel:' .. name end
local function channel_log_key(name) return root .. 'channellog:' .. name end
local function subscribers_key(name) return root .. 'subscribers:' .. name end
local function members_key(name) return root .. 'members:' .. name end
local function subscriptions_key(agent_id) return root .. 'subscriptions:' .. agent_id end
local function presence_channel() return root .. 'presence' end
local function revoked_channel() return root .. 'revoked' end
