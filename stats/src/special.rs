//! Special functions that the distributions are made of. Right to about 1e-13 where it is used here.

/// Steps after which a series or fraction is taken as it stands; never reached for the arguments used here.
const MOST_STEPS: u32 = 20_000;
/// Stands in for a zero denominator in Lentz's algorithm.
const TINY: f64 = 1e-300;

/// ln of the gamma function for x > 0: Lanczos' approximation with g = 7 and nine terms
/// (Lanczos 1964; coefficients by Godfrey 2001).
pub(crate) fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        // Reflection, DLMF 5.5.3.
        return (std::f64::consts::PI / (std::f64::consts::PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let mut sum = 0.999_999_999_999_809_9;
    for (place, term) in TERMS.iter().enumerate() {
        sum += term / (x + place as f64 + 1.0);
    }
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// Regularised upper incomplete gamma Q(a, x), a > 0, x >= 0: by the series of P (DLMF 8.7.1) left of the
/// bulk, by the continued fraction (DLMF 8.9.2, Lentz) right of it.
pub(crate) fn gamma_q(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    if x.is_infinite() {
        return 0.0;
    }
    let scale = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum) = (1.0 / a, 1.0 / a);
        for step in 1..MOST_STEPS {
            term *= x / (a + f64::from(step));
            sum += term;
            if term < sum * f64::EPSILON {
                break;
            }
        }
        return (1.0 - sum * scale).clamp(0.0, 1.0);
    }
    let mut b = x + 1.0 - a;
    let mut c = 1.0 / TINY;
    let mut d = 1.0 / b;
    let mut fraction = d;
    for step in 1..MOST_STEPS {
        let step = f64::from(step);
        let numerator = -step * (step - a);
        b += 2.0;
        d = 1.0 / nonzero(numerator * d + b);
        c = nonzero(b + numerator / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    (fraction * scale).clamp(0.0, 1.0)
}

/// Regularised incomplete beta I_x(a, b), a, b > 0, 0 <= x <= 1: by the continued fraction of
/// DLMF 8.17.22 (Lentz), on the side where it converges fast.
pub(crate) fn beta_inc(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let scale = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    let value = if x < (a + 1.0) / (a + b + 2.0) {
        scale * beta_fraction(a, b, x) / a
    } else {
        1.0 - scale * beta_fraction(b, a, 1.0 - x) / b
    };
    value.clamp(0.0, 1.0)
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let mut c = 1.0;
    let mut d = 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for step in 1..MOST_STEPS {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / nonzero(1.0 + even * d);
        c = nonzero(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / nonzero(1.0 + odd * d);
        c = nonzero(1.0 + odd / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    fraction
}

fn nonzero(value: f64) -> f64 {
    if value.abs() < TINY { TINY } else { value }
}

/// The x in `low..high` where the falling function `tail` meets `wanted`, by halving until floats run out.
pub(crate) fn invert_falling(tail: impl Fn(f64) -> f64, wanted: f64, mut low: f64, mut high: f64) -> f64 {
    loop {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            return middle;
        }
        if tail(middle) > wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, wanted: f64) {
        assert!((found - wanted).abs() <= 1e-13 * wanted.abs().max(1e-3), "{found} is not {wanted}");
    }

    #[test]
    fn ln_gamma_of_whole_and_half_numbers() {
        assert!(ln_gamma(1.0).abs() < 1e-14 && ln_gamma(2.0).abs() < 1e-14);
        near(ln_gamma(5.0), 24f64.ln());
        near(ln_gamma(0.5), std::f64::consts::PI.sqrt().ln());
        near(ln_gamma(0.25), 3.625_609_908_221_908_f64.ln());
        near(ln_gamma(101.0), (1..=100).map(|n| f64::from(n).ln()).sum());
    }

    #[test]
    fn gamma_q_where_it_has_a_closed_form() {
        for x in [0.1, 1.0, 2.5, 10.0, 30.0] {
            near(gamma_q(1.0, x), (-x).exp());
            near(gamma_q(3.0, x), (-x).exp() * (1.0 + x + x * x / 2.0));
        }
        near(gamma_q(2.0, 0.0), 1.0);
        near(gamma_q(2.0, f64::INFINITY), 0.0);
    }

    #[test]
    fn beta_inc_where_it_has_a_closed_form() {
        for x in [0.0, 0.05, 0.3, 0.5, 0.9, 1.0] {
            near(beta_inc(1.0, 1.0, x), x);
            near(beta_inc(2.0, 1.0, x), x * x);
            near(beta_inc(1.0, 4.0, x), 1.0 - (1.0 - x).powi(4));
            near(beta_inc(3.0, 2.0, x), x.powi(3) * (4.0 - 3.0 * x));
        }
    }
}
