//! Listing policy rules, and keeping those that send steer's marks to steer's tables.

use futures_util::TryStreamExt;
use netlink_packet_route::rule::RuleMessage;

use super::{Family, MarkRule, NetError, Netlink, OwnRouting, Rule};

/// What [`Netlink::ensure_rules`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleChanges {
    /// Was missing.
    pub added: Vec<MarkRule>,
    /// Was ours, but not wanted.
    pub removed: Vec<Rule>,
    /// Wanted, but the kernel has no IPv6.
    pub skipped: Vec<MarkRule>,
}

impl Netlink {
    /// All policy rules of both families, in the order in which the kernel asks them.
    pub async fn rules(&self) -> Result<Vec<Rule>, NetError> {
        let listed = self.listed_rules().await?;
        Ok(listed.into_iter().map(|listed| listed.rule).collect())
    }

    /// Adds a rule; an error if there is one like it.
    pub async fn add_rule(&self, rule: &MarkRule) -> Result<(), NetError> {
        let mut request = self.handle.rule().add();
        *request.message_mut() = rule.message();
        request
            .execute()
            .await
            .map_err(|error| NetError::request(format!("{} rule {rule}", rule.family), error))
    }

    /// Deletes a rule of steer; an error if there is none.
    pub async fn delete_rule(&self, rule: &MarkRule) -> Result<(), NetError> {
        self.delete(rule.family, &rule.to_string(), rule.message())
            .await
    }

    /// Makes this steer's rules be exactly `wanted`.
    ///
    /// What is missing is added before what is not wanted is removed, so that no
    /// marked packet is without its rule in between. If one cannot be added,
    /// those that were are removed again. When this ends early, by a crash or by
    /// being dropped, the next call finds what it left.
    pub async fn ensure_rules(
        &self,
        own: &OwnRouting,
        wanted: &[MarkRule],
    ) -> Result<RuleChanges, NetError> {
        for rule in wanted {
            check(own, rule)?;
        }
        let mut listed = self.listed_rules().await?;
        listed.retain(|listed| own.has_rule(&listed.rule));
        let (missing, unwanted) = compare(wanted, listed);
        let mut changes = RuleChanges::default();
        for rule in missing {
            match self.add_rule(&rule).await {
                Ok(()) => changes.added.push(rule),
                Err(error) if rule.family.is_unknown(&error) => changes.skipped.push(rule),
                Err(error) => return Err(self.undo(changes.added, error).await),
            }
        }
        changes.removed = self.delete_listed(unwanted).await?;
        Ok(changes)
    }

    /// Removes all rules of this steer; tells which.
    pub async fn remove_rules(&self, own: &OwnRouting) -> Result<Vec<Rule>, NetError> {
        let mut listed = self.listed_rules().await?;
        listed.retain(|listed| own.has_rule(&listed.rule));
        self.delete_listed(listed).await
    }

    async fn listed_rules(&self) -> Result<Vec<Listed>, NetError> {
        let mut all = Vec::new();
        for family in Family::ALL {
            let mut messages = self.handle.rule().get(family.version()).execute();
            loop {
                let next = messages.try_next().await;
                let next = next
                    .map_err(|error| NetError::request(format!("list of {family} rules"), error));
                match next {
                    Ok(Some(message)) => all.push(Listed {
                        rule: Rule::of(family, &message),
                        message,
                    }),
                    Ok(None) => break,
                    Err(error) if family.is_unknown(&error) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(all)
    }

    /// Deletes as many as it can, and then tells the first failure.
    async fn delete_listed(&self, listed: Vec<Listed>) -> Result<Vec<Rule>, NetError> {
        let mut removed = Vec::new();
        let mut failure = None;
        for Listed { rule, message } in listed {
            match self.delete(rule.family, &rule.to_string(), message).await {
                Ok(()) => removed.push(rule),
                // Somebody else was faster.
                Err(error) if error.errno() == Some(libc::ENOENT) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(removed), Err)
    }

    async fn delete(
        &self,
        family: Family,
        name: &str,
        message: RuleMessage,
    ) -> Result<(), NetError> {
        self.handle
            .rule()
            .del(message)
            .execute()
            .await
            .map_err(|error| NetError::request(format!("{family} rule {name}"), error))
    }

    /// Deletes what was added before `error`.
    async fn undo(&self, added: Vec<MarkRule>, error: NetError) -> NetError {
        let (mut undone, mut left) = (Vec::new(), Vec::new());
        for rule in added.into_iter().rev() {
            let name = format!("{} rule {rule}", rule.family);
            match self.delete_rule(&rule).await {
                Ok(()) => undone.push(name),
                Err(_) => left.push(name),
            }
        }
        NetError::Undone {
            cause: Box::new(error),
            undone,
            left,
        }
    }
}

/// A rule, and the kernel's words for it: these find exactly it.
struct Listed {
    rule: Rule,
    message: RuleMessage,
}

/// Refuses a rule that would not be found again, or that would match nothing or everything.
fn check(own: &OwnRouting, rule: &MarkRule) -> Result<(), NetError> {
    let is_sound = rule.mark != 0 && rule.mark & !rule.mask == 0;
    if is_sound && own.has_rule(&Rule::from(rule)) {
        return Ok(());
    }
    Err(NetError::Request {
        what: format!("{} rule {rule}", rule.family),
        cause: std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a rule of this steer"),
    })
}

/// What of `wanted` is missing among `ours`, and what of `ours` is too much.
fn compare(wanted: &[MarkRule], ours: Vec<Listed>) -> (Vec<MarkRule>, Vec<Listed>) {
    let mut missing: Vec<MarkRule> = Vec::new();
    for rule in wanted {
        let is_there = ours.iter().any(|listed| listed.rule == Rule::from(rule));
        if !is_there && !missing.contains(rule) {
            missing.push(rule.clone());
        }
    }
    let unwanted = ours
        .into_iter()
        .filter(|listed| !wanted.iter().any(|rule| listed.rule == Rule::from(rule)))
        .collect();
    (missing, unwanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> OwnRouting {
        OwnRouting {
            prefs: 5_210..=5_210,
            tables: 572_300..=572_315,
        }
    }

    fn wanted(tunnel: u32) -> MarkRule {
        MarkRule {
            family: Family::V4,
            pref: 5_210,
            mark: (tunnel + 1) << 24,
            mask: 0xFF00_0000,
            table: 572_300 + tunnel,
        }
    }

    fn listed(rule: Rule) -> Listed {
        Listed {
            rule,
            message: RuleMessage::default(),
        }
    }

    #[test]
    fn unsound_rules_are_refused() {
        assert!(check(&own(), &wanted(0)).is_ok());
        let unsound = [
            MarkRule {
                mark: 0,
                ..wanted(0)
            },
            MarkRule {
                mark: 0x0180_0000,
                ..wanted(0)
            },
            MarkRule {
                pref: 5_211,
                ..wanted(0)
            },
            wanted(16),
        ];
        for rule in unsound {
            let error = check(&own(), &rule).expect_err("refused");
            assert_eq!(
                error.to_string(),
                format!("IPv4 rule {rule}: not a rule of this steer")
            );
        }
    }

    #[test]
    fn what_is_missing_and_too_much() {
        let twice = [wanted(0), wanted(1), wanted(1)];
        let stale = Rule {
            more: true,
            ..Rule::from(&wanted(0))
        };
        let ours = vec![
            listed(stale.clone()),
            listed(Rule::from(&wanted(0))),
            listed(Rule::from(&wanted(2))),
        ];
        let (missing, unwanted) = compare(&twice, ours);
        assert_eq!(missing, [wanted(1)]);
        let unwanted: Vec<Rule> = unwanted.into_iter().map(|listed| listed.rule).collect();
        assert_eq!(unwanted, [stale, Rule::from(&wanted(2))]);
    }
}
