//! Messages for chat targets, each in the form its service publishes.

use serde_json::json;

use super::summary::Summary;

/// Teams answers 413 to more; counted in bytes.
pub(super) const TEAMS_LIMIT: usize = 28 * 1024;
/// Discord refuses a longer `content`.
const DISCORD_CONTENT: usize = 2_000;

/// A Slack incoming webhook: `text` with `&`, `<` and `>` escaped, since those begin Slack's own marks.
pub(super) fn slack(summary: &Summary) -> String {
    let title = format!("*{}*", escaped(&summary.title));
    let link = summary.url.as_ref().map(|url| format!("<{}|Open>", escaped(url)));
    json!({ "text": lines(title, summary, escaped, link) }).to_string()
}

/// Title, facts with their values made harmless, and what comes last.
fn lines(
    title: String,
    summary: &Summary,
    harmless: fn(&str) -> String,
    last: Option<String>,
) -> String {
    let facts = summary.facts.iter().map(|(name, value)| format!("{name}: {}", harmless(value)));
    std::iter::once(title).chain(facts).chain(last).collect::<Vec<_>>().join("\n")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A Discord webhook: nobody is mentioned, whatever a sender wrote.
pub(super) fn discord(summary: &Summary) -> String {
    let title = format!("**{}**", unmarked(&summary.title));
    let text = lines(title, summary, unmarked, None);
    // Cut before the link is added: half a link is none. Discord counts UTF-16 units.
    let link = summary.url.as_ref().map(|url| format!("\n<{url}>")).unwrap_or_default();
    let mut room = DISCORD_CONTENT.saturating_sub(link.len());
    let fits = |c: &char| match room.checked_sub(c.len_utf16()) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    let content: String = text.chars().take_while(fits).collect();
    json!({ "content": content + &link, "allowed_mentions": { "parse": [] } }).to_string()
}

/// Markdown's marks, taken as text.
fn unmarked(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\*_~`|>[]<".contains(c) {
            plain.push('\\');
        }
        plain.push(c);
    }
    plain
}

/// A card reads `[text](address)` as a link, and knows no sign that takes that away everywhere: so the two come apart.
fn unlinked(text: &str) -> String {
    text.replace("](", "] (")
}

/// A Teams workflow: one adaptive card in a message.
pub(super) fn teams(summary: &Summary) -> String {
    let fact = |(name, value): &(&str, String)| json!({ "title": name, "value": unlinked(value) });
    let facts: Vec<_> = summary.facts.iter().map(fact).collect();
    let title = json!({
        "type": "TextBlock",
        "text": unlinked(&summary.title),
        "weight": "Bolder",
        "size": "Medium",
        "wrap": true,
    });
    let action = |url: &String| json!({ "type": "Action.OpenUrl", "title": "Open", "url": url });
    let actions: Vec<_> = summary.url.iter().map(action).collect();
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [title, { "type": "FactSet", "facts": facts }],
        "actions": actions,
    });
    let content_type = "application/vnd.microsoft.card.adaptive";
    let attachments = json!([{ "contentType": content_type, "content": card }]);
    json!({ "type": "message", "attachments": attachments }).to_string()
}
